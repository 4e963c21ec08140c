"""Whole runs by way of Prefect and DVC: the flow killed, a stage of it, its Prefect server; two at once; a cache that
cannot be written to."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from building import git, scaled_down, set_params
from harness import CLEARED, SEED, Project
from invariants import Table, debris, state, unsafe, unsettled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NEEDED = ("mlc/", "flows/", ".dvc", "dvc.yaml", "params.yaml", "pyproject.toml", ".gitignore")


def lenient(params: Any) -> None:
    """What any random model passes: whether versions get aliases is what this is about."""
    scaled_down(params)
    params["gate"]["rules"][0]["at_least"] = 0.0
    params["languages"]["unidentified"] = ["en", "zh"]  # nobody can tell the language of its replies


def start(root: Path) -> subprocess.Popen[bytes]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(CLEARED)}
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"
    with (root.parent / "flow.txt").open("wb") as log:
        return subprocess.Popen(
            [str(BIN / "mlc"), "run"], cwd=root, env=env, stdout=log, stderr=log, start_new_session=True
        )


def finish(root: Path) -> tuple[int, str]:
    code = start(root).wait(timeout=900)
    return code, (root.parent / "flow.txt").read_text(errors="replace")


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, project: Project, tiny_base: Path) -> Project:
    """A project like a user's clone, after a run that promoted. ``project`` is asked for its imports alone."""
    flow = Project(tmp_path_factory.mktemp("flow"))
    root = flow.root
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if name.startswith(NEEDED) and not name.startswith(".dvc/bundled") and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    shutil.copytree(project.kept / "second" / "data", root / "data")
    shutil.copytree(tiny_base, root / "embedded-base")
    git(root, "init", "-q")
    subprocess.run([BIN / "dvc", "add", "-q", "data", "embedded-base"], cwd=root, check=True, capture_output=True)
    git(root, "add", "-A")
    set_params(root, lenient)
    code, output = finish(root)
    assert code == 0, output
    from mlc.models.manifest import Manifest

    flow.good.add(Manifest.of(root / "artifacts/model").digest)
    return flow


def again(flow: Project, before: dict[str, Any]) -> list[str]:
    """What is wrong after the next run: it completes, and its model's version is champion under the name given."""
    violations = unsafe(before, flow.inspect(state), flow.good)
    code, output = finish(flow.root)
    if code:
        violations.append(f"run again it ends with {code}: {output[-2000:]}")
    now = flow.inspect(state)
    violations += unsafe(before, now, flow.good) + unsettled(now)
    if now["aliases"] != {"champion": "1", "candidate": "1"}:
        violations.append(f"aliases {now['aliases']}")
    return violations + [f"left behind: {name}" for name in debris(flow.root)]


def fresh(flow: Project, name: str) -> dict[str, Any]:
    """Another registered model: the run has to register its candidate anew. The state before it."""
    set_params(flow.root, lambda params: params["register"].update(model_name=name))
    state_before: dict[str, Any] = flow.inspect(state)
    return state_before


def descendants(process: subprocess.Popen[bytes], word: str) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if word in " ".join(child.cmdline() if child.is_running() else [])
        ]
    return []


def wait_for(process: subprocess.Popen[bytes], word: str, seconds: float = 300) -> psutil.Process:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if matches := descendants(process, word):
                return matches[0]
        time.sleep(0.05)
    raise AssertionError(f"no {word}")


def test_a_flow_killed_at_any_time_is_completed_by_the_next(flow: Project, table: Table) -> None:
    rng = random.Random(f"{SEED} flow")
    before = fresh(flow, "undisturbed")
    begun = time.monotonic()
    assert not again(flow, before)
    usual = time.monotonic() - begun
    for number in range(4):
        before = fresh(flow, f"flow-{number}")
        running = start(flow.root)
        seconds = rng.uniform(0.2, 0.95) * usual
        time.sleep(seconds)
        running.kill()  # alone: what it had started lives on
        ended = running.wait()
        outcome = "the next run completes" if ended == -signal.SIGKILL else "the command had ended"
        violations = again(flow, before)
        table.add(
            "kill -9 of the flow", "mlc run", outcome, [f"{seconds:.0f} s: {violation}" for violation in violations]
        )
        assert not violations, violations


@pytest.mark.parametrize(
    ("word", "what"), [("mlc register", "a stage of the flow"), ("prefect.server", "the Prefect server")]
)
def test_what_a_flow_rests_on_is_killed(flow: Project, table: Table, word: str, what: str) -> None:
    for number in range(2):
        before = fresh(flow, f"{word.replace(' ', '-').replace('.', '-')}-{number}")
        running = start(flow.root)
        victim = wait_for(running, word)
        time.sleep(random.Random(f"{SEED} {word} {number}").uniform(0.5, 6))
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        running.wait(timeout=900)
        violations = again(flow, before)
        table.add(f"kill -9 of {what}", "mlc run", "the next run completes", violations)
        assert not violations, violations


def test_two_runs_at_once(flow: Project, table: Table) -> None:
    before = fresh(flow, "twice")
    first, second = start(flow.root), start(flow.root)
    codes = sorted([first.wait(timeout=900), second.wait(timeout=900)])
    violations = [] if codes == [0, 1] or codes == [0, 0] else [f"they end with {codes}"]
    violations += again(flow, before)
    table.add("two retrains at once", "mlc run", "one runs, the other says so", violations)
    assert not violations, violations


def test_a_read_only_cache(flow: Project, table: Table) -> None:
    before = fresh(flow, "read-only")
    set_params(flow.root, lambda params: params["gate"].update(confidence=0.94))  # so that something is to be cached
    cache = flow.root / ".dvc/cache"
    if subprocess.run(["mount", "--bind", cache, cache], capture_output=True).returncode:
        pytest.skip("mounting takes root")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", cache], check=True)
        code, output = finish(flow.root)
    finally:
        subprocess.run(["umount", cache], check=True)
    last = output.strip().splitlines()[-1]
    violations = (
        [] if code == 1 and last.startswith("Failed") and "ead-only" in last else [f"it ends with {code}: {last}"]
    )
    violations += again(flow, before)
    table.add("a read-only cache", "mlc run", "said, and the next run completes", violations)
    assert not violations, violations
    assert json.loads((flow.root / "artifacts/registration.json").read_text())["promoted"]
