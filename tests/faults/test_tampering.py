"""What changes behind the pipeline's back: weights, a verdict, data, a checkpoint, a registered version, the clock."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from building import judged
from cases import Case
from harness import SEED, Before, Ended, Project, effects
from invariants import Table, outputs, state, unsafe, unsettled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
MODEL = "artifacts/model"
VERDICT = "artifacts/gate/verdict.json"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def not_explained(ended: Ended) -> list[str]:
    return [] if ended.code and ended.explained else [f"it ends with {ended.code}: {ended.output[-2000:]}"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "manifest.json"])
def test_a_file_tampered_with_after_the_gate_is_not_registered(project: Project, table: Table, name: str) -> None:
    case = Case(project, table, "register", "second", ())
    project.restore("second")
    path = project.root / MODEL / name
    good = path.read_bytes()
    if name == "manifest.json":
        path.write_text(json.dumps({**json.loads(good), "step": 2}))
    else:
        flip(path)
    ended = project.mlc("register")
    wrong = not_explained(ended) + case.unsafe()
    path.write_bytes(good)
    case.check("a tampered model between gate and register", ended, name, *wrong)
    case.assert_nothing_found()


def passing(verdict: dict[str, Any]) -> None:
    verdict |= {"passed": True, "failed": [], "rules": [{**rule, "passed": True} for rule in verdict["rules"]]}


def passing_by_numbers(verdict: dict[str, Any]) -> None:
    passing(verdict)
    verdict["rules"] = [{**rule, "value": rule["threshold"], "bound": rule["threshold"]} for rule in verdict["rules"]]


def passing_by_threshold(verdict: dict[str, Any]) -> None:
    passing(verdict)
    verdict["rules"] = [{**rule, "threshold": rule["bound"]} for rule in verdict["rules"]]
    verdict["gate"]["rules"][0]["at_least"] = 0.0


def passing_without_failed(verdict: dict[str, Any]) -> None:
    verdict["rules"] = [rule for rule in verdict["rules"] if rule["passed"]]
    passing(verdict)


EDITS = (passing, passing_by_numbers, passing_by_threshold, passing_without_failed)


@pytest.mark.parametrize("edit", EDITS)
def test_a_verdict_edited_by_hand_registers_nothing(
    project: Project, table: Table, edit: Callable[[dict[str, Any]], None]
) -> None:
    project.restore("second")
    judged(project, unsafe=12)
    project.done("gate")
    before = project.inspect(state)
    path = project.root / VERDICT
    verdict = json.loads(path.read_text())
    assert not verdict["passed"]
    edit(verdict)
    path.write_text(json.dumps(verdict))
    ended = project.mlc("register")
    violations = not_explained(ended) + unsafe(before, project.inspect(state), project.good)
    project.done("gate")
    again = project.done("register")
    if "not registered" not in again.output:
        violations.append(f"after the gate has run again: {again.output}")
    now = project.inspect(state)
    violations += unsafe(before, now, project.good) + unsettled(now)
    if now["aliases"] != before["aliases"]:
        violations.append(f"aliases {now['aliases']} instead of {before['aliases']}")
    table.add("a verdict edited by hand", "register", "refused, and what to run is said", violations)
    assert not violations, "\n".join(violations)


def changing(root: Path, file: str, at: int) -> Before:
    """Takes the last line out of a file right before an effect."""

    def act(number: int, _what: str) -> None:
        if number == at:
            path = root / file
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    return effects(root, act)


CHANGED = (
    ("validate", "data/alignment.jsonl"),
    ("validate", "data/evaluation.jsonl"),
    ("train", "artifacts/prompts/alignment.jsonl"),
)


@pytest.mark.parametrize(("command", "file"), CHANGED)
def test_data_that_changes_while_it_is_read_ends_the_stage(
    project: Project, table: Table, command: str, file: str
) -> None:
    """Its outputs would be said to come from what they do not come from."""
    output_path = {"validate": "artifacts/prompts/alignment.jsonl", "train": "artifacts/candidates"}[command]
    case = Case(project, table, command, f"before {command}", (output_path,))
    rng = random.Random(f"{SEED} {command} {file}")
    for at in rng.sample(range(len(case.effects) * 2 // 3), 3):
        project.restore(case.kept)
        good = (project.root / file).read_bytes()
        ended = project.mlc(command, before=changing(project.root, file, at))
        # Once it has read everything, its outputs are of what was there before, and say so.
        same = outputs(project.root, output_path) == case.expected
        wrong = [] if ended.code == 0 and same else not_explained(ended)
        (project.root / file).write_bytes(good)
        case.check("a data file changed mid-run", ended, f"{file}, before effect {at} ({case.effects[at]})", *wrong)
    case.assert_nothing_found()


def test_prompts_changed_while_they_are_answered_are_not_judged(project: Project, table: Table) -> None:
    case = Case(project, table, "evaluate candidate", "before evaluate candidate", ())
    for at in (0, len(case.effects) // 2):
        project.restore(case.kept)
        path = project.root / "artifacts/prompts/evaluation.jsonl"
        good = path.read_bytes()
        project.mlc("evaluate", "candidate", before=changing(project.root, "artifacts/prompts/evaluation.jsonl", at))
        ended = project.mlc("gate")
        # Changed before they were read, they are other prompts than the base was asked: a rule of the gate then fails.
        failed = ended.code == 0 and not json.loads((project.root / VERDICT).read_text())["passed"]
        wrong = [] if failed else not_explained(ended)
        path.write_bytes(good)
        case.check("a data file changed mid-run", ended, f"before effect {at}", *wrong)
    case.assert_nothing_found()


def test_a_truncated_checkpoint_is_not_gone_on_from(project: Project, table: Table) -> None:
    case = Case(project, table, "train", "before train", ("artifacts/candidates",))
    last = max(i for i, effect in enumerate(case.effects) if "sizes.json" in effect and "rename" in effect)
    project.restore(case.kept)
    ended = project.killed_before(last + 2, "train")
    assert ended.code == -signal.SIGKILL
    folder = max((project.root / "artifacts/checkpoints").glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1]))
    names = [file.name for file in folder.iterdir() if file.is_file() and file.stat().st_size > 1]
    project.keep("with checkpoint")
    for name in random.Random(SEED).sample(sorted(names), 5):
        project.restore("with checkpoint")
        path = project.root / folder.relative_to(project.root) / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case.check("a truncated checkpoint", ended, name)
    case.assert_nothing_found()


def test_a_version_tampered_with_in_the_store_gets_no_alias(project: Project, table: Table) -> None:
    """A kill leaves a version without aliases, its files are changed, and it is registered again."""
    case = Case(project, table, "register", "second", ())
    alias = case.effects.index("MLflow set_registered_model_alias")
    project.restore("second")
    ended = project.killed_before(alias, "register")
    stored = project.root.glob("mlflow/artifacts/*/artifacts/registered/*/artifacts/model/model.safetensors")
    weights = max(stored, key=lambda path: path.stat().st_mtime_ns)
    flip(weights)
    again = project.mlc("register")
    wrong = not_explained(again) + case.unsafe()
    flip(weights)
    case.check("a registered version tampered with", ended, "weights", *wrong)
    case.assert_nothing_found()


def test_a_clock_that_jumps_neither_overwrites_nor_reorders_the_ledger(project: Project, table: Table) -> None:
    project.restore("settled")
    before = first = project.inspect(state)
    rng = random.Random(SEED)
    moves = ["promote 1 --why slow", "rollback", "promote 1 --why slow", "promote 2 --why fast", "reject 1 --why bad"]
    for number, move in enumerate([*moves, "register"]):
        offset = timedelta(seconds=rng.uniform(-400, 400) * 86400)

        def jumped(offset: timedelta = offset) -> None:
            import mlc.registry.ledger

            class Clock(datetime):
                @classmethod
                def now(cls, tz: Any = None) -> Any:
                    return datetime.now(tz) + offset

            mlc.registry.ledger.datetime = Clock  # type: ignore[misc]

        ended = project.mlc(*(["register"] if move == "register" else ["registry", *move.split()]), before=jumped)
        violations = [] if ended.code == 0 else [f"{move}: {ended.code} {ended.output[-2000:]}"]
        now = project.inspect(state)
        violations += unsafe(before, now, project.good) + unsettled(now)
        if now["ledger"] == before["ledger"] and move not in ("register",):
            violations.append("no entry was written")
        table.add("a clock that jumps", "registry", "in order", [f"{number} {move} {offset}: {v}" for v in violations])
        assert not violations, "\n".join(violations)
        before = now
    assert now["ledger"][: len(first["ledger"])] == first["ledger"]
