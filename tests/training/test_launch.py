"""The train stage in several processes, real ones, and killed: it ends like one process that nobody disturbed."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlc.errors import MlcError
from mlc.files import write_json
from mlc.models.loading import load_model
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, write_prompts
from mlc.settings import Languages, Lora, Train, load_settings
from mlc.training import build, stage
from mlc.training.checkpoints import prepare_checkpoints

ROOT = Path(__file__).parents[2]
LANGUAGES = Languages(source="en", served=("en", "hi"), transfer=())
PUBLISHED = {"name": "mlc", "layer": -1, "every": 2, "projection": 8, "refusal_weight": 0.0, "retain_weight": 0.0}
LORA = Lora(r=2, alpha=4, dropout=0.0, target_modules="all-linear", load_in_4bit=False)
BASE = load_settings(ROOT / "params.yaml").base
STAGE = """
import json, sys
from pathlib import Path
from mlc.paths import Paths
from mlc.settings import Base, Languages, Train
from mlc.training import stage
told = json.loads(Path(sys.argv[1]).read_text())
parts = [kind.model_validate_json(json.dumps(told[kind.__name__])) for kind in (Languages, Base, Train)]
stage.run(*parts, Paths(Path(sys.argv[1]).parent))
"""


@pytest.fixture
def projects(
    tmp_path: Path, tiny_base: Path, alignment_rows: list[PromptRow], monkeypatch: pytest.MonkeyPatch
) -> tuple[Paths, Paths]:
    """Two projects alike, to be trained in different ways."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    both = Paths(tmp_path / "one"), Paths(tmp_path / "two")
    for paths in both:
        shutil.copytree(tiny_base, paths.base)
        write_prompts(paths.prompts / "alignment.jsonl", alignment_rows)
    return both


def train(objective: dict[str, Any], **rest: Any) -> Train:
    whole = load_settings(ROOT / "params.yaml").train
    small = {"layer": 1, "every": 1, "trusted_languages": ("en",)} | objective
    update = {
        "max_steps": 4,
        "batch_size": 4,
        "sft_weight": 0.0,
        "objective": whole.objective.model_copy(update=small),
    } | rest
    return whole.model_copy(update=update)


def logged(paths: Paths) -> list[dict[str, float]]:
    with (paths.training / "log.csv").open() as file:
        # The objective's columns are empty on steps without it.
        return [{name: float(value or 0) for name, value in row.items()} for row in csv.DictReader(file)]


def weights(paths: Paths) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_model(paths.candidate(paths.candidate_steps()[-1]), paths.base, "float32")[
        0
    ].state_dict()
    return state


def assert_equal(one: Paths, two: Paths) -> None:
    """What was logged and the weights are the same, to rounding."""
    for a, b in zip(logged(one), logged(two), strict=True):
        # Both are of all processes: the loss that is logged is their mean, the gradient that of the mean.
        for name in ("loss", "mlc/loss"):
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-6)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
    trained = weights(two)
    for name, value in weights(one).items():
        torch.testing.assert_close(trained[name], value, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("objective", "lora"),
    [({}, None), ({}, LORA), (PUBLISHED, None)],
    ids=["direction", "direction-lora", "published"],
)
@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_batches_twice_as_large(
    objective: dict[str, Any], lora: Lora | None, projects: tuple[Paths, Paths], capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = projects
    stage.run(LANGUAGES, BASE, train(objective, lora=lora, learning_rate=1e-3), one)
    capfd.readouterr()
    ddp = {"processes": 2, "accelerate": str(ROOT / "recipes/accelerate/ddp.yaml"), "batch_size": 2}
    stage.run(LANGUAGES, BASE, train(objective, lora=lora, learning_rate=1e-3, **ddp), two)
    assert capfd.readouterr().out.count("step 4 of 4") == 1  # the main process alone speaks
    assert_equal(one, two)
    assert (two.candidate(4) / "manifest.json").exists() and not two.checkpoints.exists()


@pytest.mark.parametrize("objective", [{}, PUBLISHED], ids=["direction", "published"])
@pytest.mark.slow
def test_a_model_split_over_two_processes_learns_what_a_whole_one_does(
    objective: dict[str, Any],
    projects: tuple[Paths, Paths],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    one, two = projects
    stage.run(LANGUAGES, BASE, train(objective, learning_rate=1e-3), one)
    recipe = (ROOT / "recipes/accelerate/fsdp2.yaml").read_text()
    on_cpu = tmp_path / "fsdp2.yaml"
    on_cpu.write_text(recipe.replace("use_cpu: false", "use_cpu: true"))
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent / 'fsdp_on_cpu'}{os.pathsep}{ROOT}")
    capfd.readouterr()
    fsdp = {"processes": 2, "accelerate": str(on_cpu), "batch_size": 2}
    stage.run(LANGUAGES, BASE, train(objective, learning_rate=1e-3, **fsdp), two)
    split = re.search(r"(\d+) of (\d+) parameters are split", capfd.readouterr().out)
    assert split and split[1] == split[2]
    assert_equal(one, two)


@pytest.mark.slow
def test_fsdp_without_a_gpu_is_refused(projects: tuple[Paths, Paths], capfd: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has FSDP")
    fsdp = {"processes": 2, "accelerate": str(ROOT / "recipes/accelerate/fsdp2.yaml")}
    with pytest.raises(MlcError, match="2 processes ended with status 1"):
        stage.run(LANGUAGES, BASE, train({}, **fsdp), projects[0])
    assert capfd.readouterr().err.count("accelerate does not have on cpu") == 1
    assert not projects[0].model.exists()


def test_an_adapter_under_zero_3_is_refused() -> None:
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=3))
    with pytest.raises(MlcError, match="does not go with DeepSpeed ZeRO-3"):
        build._check_split(state, train({}, lora=LORA))
    build._check_split(state, train({}))


def test_a_missing_configuration_is_named(projects: tuple[Paths, Paths]) -> None:
    with pytest.raises(MlcError, match=r"none\.yaml does not exist"):
        stage.run(LANGUAGES, BASE, train({}, processes=2, accelerate="none.yaml"), projects[0])


def test_unfinished_and_truncated_checkpoints_are_removed(tmp_path: Path) -> None:
    write_json(tmp_path / "identity.json", {"identity": "same"})
    for step, weights in {2: "whole", 4: "whole", 10: "who", 12: "whole", 14: None}.items():
        folder = tmp_path / f"checkpoint-{step}"
        write_json(folder / "sizes.json", {"optimizer.pt": 5})
        if weights is not None:
            (folder / "optimizer.pt").write_text(weights)
    (tmp_path / "checkpoint-12" / "sizes.json").write_text('{"optimi')
    assert prepare_checkpoints(tmp_path, "same") == str(tmp_path / "checkpoint-4")
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}


@pytest.mark.slow
def test_killed_three_times_it_ends_like_an_undisturbed_run(projects: tuple[Paths, Paths]) -> None:
    one, two = projects
    settings = train({}, max_steps=16, save_steps=2, learning_rate=1e-3)
    stage.run(LANGUAGES, BASE, settings, one)
    parts = {"Languages": LANGUAGES, "Base": BASE, "Train": settings}
    config = two.root / "told.json"
    write_json(config, {name: part.model_dump(mode="json") for name, part in parts.items()})
    # An even step's line comes before its checkpoint is written.
    for step in [*sorted(random.Random(0).sample(range(4, 16), 3)), None]:
        run = subprocess.Popen(
            [sys.executable, "-u", "-c", STAGE, str(config)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith(f"step {step} of"):
                run.send_signal(signal.SIGKILL)
        assert run.wait() == (0 if step is None else -signal.SIGKILL)
    assert len(logged(two)) == 16
    for a, b in zip(logged(one), logged(two), strict=True):
        assert (b["step"], b["loss"], b["mlc/loss"]) == pytest.approx(
            (a["step"], a["loss"], a["mlc/loss"]), rel=1e-5, abs=1e-6
        )
    trained = weights(two)
    for name, value in weights(one).items():
        torch.testing.assert_close(trained[name], value, atol=1e-5, rtol=0, msg=name)
    assert json.loads((two.training / "metrics.json").read_text())["loss"] == pytest.approx(
        logged(one)[-1]["loss"], rel=1e-5
    )
