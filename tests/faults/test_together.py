"""Two at once."""

from __future__ import annotations

import random
import time

import pytest
from cases import Case
from harness import SEED, Project
from invariants import Table

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
PAIRS = (
    ("register", "second", "register"),
    ("registry rollback", "settled", "register"),
    ("registry approve 2 --why good", "waiting", "registry approve 2 --why better"),
)


@pytest.mark.parametrize(("command", "kept", "other"), PAIRS)
def test_two_commands_at_once_are_one_after_the_other(
    project: Project, table: Table, command: str, kept: str, other: str
) -> None:
    case = Case(project, table, command, kept, ())
    rng = random.Random(f"{SEED} {command}")
    for _ in range(3):
        project.restore(kept)
        first = project.start(*case.arguments)
        pause = rng.uniform(0, 0.8) * project.times[case.arguments]
        time.sleep(pause)
        second = project.start(*other.split())
        ends = [first.wait(), second.wait()]
        wrong = [
            f"ends with {ended.code}: {ended.output[-2000:]}" for ended in ends if ended.code and not ended.explained
        ]
        wrong += case.unsafe()
        case.check(f"{other.split(' --')[0]} at the same time", ends[1], f"{pause:.1f} s later", *wrong)
    case.assert_nothing_found()
