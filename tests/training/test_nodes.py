"""Training over several machines, two of them on loopback: started as recipes/accelerate/nodes.yaml says."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from mlc.paths import Paths
from mlc.training import stage
from training.test_launch import BASE, LANGUAGES, ROOT, logged, projects, train, weights  # noqa: F401  # projects is a fixture

RECIPE = ROOT / "recipes/accelerate/nodes.yaml"


def _second_machine(configuration: Path, job: Path) -> list[str]:
    """The command that the recipe gives for the other machines, for two processes on this one."""
    comment = RECIPE.read_text().partition("#   accelerate launch")[2].partition("\n# Under")[0]
    arguments = shlex.split("launch " + comment.replace("\\\n#", " "))
    replacements = {
        "recipes/accelerate/nodes.yaml": str(configuration),
        "artifacts/checkpoints/job.json": str(job),
        "16": "2",
    }
    assert replacements.keys() <= set(arguments)
    return [sys.executable, "-m", "accelerate.commands.launch", *(replacements.get(arg, arg) for arg in arguments[1:])]


@pytest.mark.slow
def test_two_machines_learn_what_one_does_from_batches_twice_as_large(
    projects: tuple[Paths, Paths],  # noqa: F811
    tmp_path: Path,
) -> None:
    one, two = projects
    yaml = YAML()
    nodes = yaml.load(RECIPE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nodes |= {"main_process_ip": "127.0.0.1", "main_process_port": free.getsockname()[1]}
    configuration, job = tmp_path / "nodes.yaml", two.checkpoints / "job.json"
    yaml.dump(nodes, configuration)
    stage.run(LANGUAGES, BASE, train({}, learning_rate=1e-3), one)
    ended = []

    def join() -> None:
        while not job.exists():
            time.sleep(0.1)
        ended.append(subprocess.run(_second_machine(configuration, job), timeout=300).returncode)

    other = threading.Thread(target=join, daemon=True)
    other.start()
    both = {"processes": 2, "accelerate": str(configuration), "batch_size": 2}
    stage.run(LANGUAGES, BASE, train({}, learning_rate=1e-3, **both), two)
    other.join(60)
    assert ended == [0]
    for a, b in zip(logged(one), logged(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-6)
    trained = weights(two)
    for name, value in weights(one).items():
        torch.testing.assert_close(trained[name], value, atol=2e-4, rtol=1e-3, msg=name)
