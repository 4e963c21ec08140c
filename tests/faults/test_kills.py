"""kill -9 at any instant: right before any write to the disk or call to MLflow, and at random times. Then run again."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import pytest
from cases import Case
from harness import SEED, SHARE, Project
from invariants import Table

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


class Killed(NamedTuple):
    """A command, the project that it works on, how often it is killed right before an effect and how often at a random
    time, and the files that it has to have made in the end."""

    command: str
    kept: str
    effects: int
    times: int
    files: tuple[str, ...] = ()


METRICS = ("base/metrics.json", "candidate/metrics.json", "per_language.csv")
PROMPTS = ("alignment.jsonl", "tuning.jsonl", "evaluation.jsonl", "quarantine.jsonl", "metrics.json")
KILLED = (
    Killed("register", "before register", 32, 6),
    Killed("register", "second", 44, 10),
    Killed("registry promote 1 --why slow", "settled", 12, 2),
    Killed("registry rollback", "settled", 12, 2),
    Killed("registry approve 2 --why good", "waiting", 12, 2),
    Killed("registry reject 2 --why bad", "waiting", 8, 2),
    Killed("report", "settled", 2, 2),
    Killed("validate", "before validate", 6, 3, tuple(f"artifacts/prompts/{name}" for name in PROMPTS)),
    Killed("base", "before base", 6, 1, ("artifacts/base",)),
    Killed("trusted-languages", "before trusted-languages", 4, 1, ("artifacts/trusted_languages",)),
    Killed("train", "before train", 14, 8, ("artifacts/candidates",)),
    Killed("evaluate tuning", "before evaluate tuning", 6, 3, ("artifacts/tuning",)),
    Killed("select", "before select", 8, 2, ("artifacts/model", "artifacts/selection")),
    Killed(
        "evaluate candidate",
        "before evaluate candidate",
        8,
        5,
        ("artifacts/evaluation/candidate/samples.jsonl",),
    ),
    Killed("metrics", "before metrics", 4, 1, tuple(f"artifacts/evaluation/{name}" for name in METRICS)),
    Killed("gate", "second", 3, 4, ("artifacts/gate/verdict.json",)),
)
WRITES = re.compile("MLflow (create|set|delete|log)|os.rename")


def instants(effects: list[str], number: int, rng: random.Random) -> list[int]:
    """Where to kill: half of them right before and after a write that others see, the rest anywhere."""
    seen = {at for i, effect in enumerate(effects) if WRITES.match(effect) for at in (i, i + 1) if at < len(effects)}
    chosen = rng.sample(sorted(seen), min(len(seen), -(-number // 2)))
    rest = [i for i in range(len(effects)) if i not in chosen]
    return chosen + rng.sample(rest, min(len(rest), number - len(chosen)))


@pytest.mark.parametrize("killed", KILLED, ids=[f"{k.command}, {k.kept}" for k in KILLED])
def test_a_command_killed_at_any_instant_is_completed_by_the_next(
    project: Project, table: Table, killed: Killed
) -> None:
    case = Case(project, table, killed.command, killed.kept, killed.files)
    rng = random.Random(f"{SEED} {killed.command} {killed.kept}")
    for at in instants(case.effects, round(SHARE * killed.effects), rng):
        project.restore(killed.kept)
        ended = project.killed_before(at, *case.arguments)
        case.check("kill -9", ended, f"before effect {at} ({case.effects[at]})", hit=ended.killed)
    for _ in range(round(SHARE * killed.times)):
        project.restore(killed.kept)
        seconds = rng.uniform(0.02, 0.95) * project.times[case.arguments]
        ended = project.killed_after(seconds, *case.arguments)
        case.check("kill -9", ended, f"after {seconds:.2f} s", hit=ended.killed)
    case.assert_nothing_found()
