"""A command on a project, a fault, the same command again, and what has to hold then."""

from __future__ import annotations

from typing import Any

from harness import Ended, Project
from invariants import Table, debris, outputs, state, unsafe, unsettled


class Case:
    """A command, the kept project that it works on, and the files that it has to have made in the end."""

    def __init__(self, project: Project, table: Table, command: str, kept: str, files: tuple[str, ...]) -> None:
        self.project, self.table, self.kept, self.files = project, table, kept, files
        self.arguments = tuple(command.split())
        self.where = command.split(" --")[0]
        self.registry = command.startswith(("train", "regist"))
        self.violations: list[str] = []
        project.restore(kept)
        self.before = project.inspect(state) if self.registry else {}
        project.restore(kept)  # looking has made the store, which is the command's to make
        self.effects = project.count(*self.arguments)
        self.expected = outputs(project.root, *files)
        self.aliases = project.inspect(state)["aliases"] if self.registry else {}

    def unsafe(self) -> list[str]:
        return unsafe(self.before, self.project.inspect(state), self.project.good) if self.registry else []

    def check(self, fault: str, ended: Ended, how: str, *wrong: str, hit: bool = True) -> None:
        """Runs the command again after a fault, and looks at everything; ``wrong`` is what was found before."""
        violations = [*wrong, *self.unsafe()]
        again = self.project.mlc(*self.arguments)
        if again.code and not again.explained:
            violations.append(f"run again it ends with {again.code}: {again.output[-2000:]}")
        if self.registry:
            now: dict[str, Any] = self.project.inspect(state)
            violations += unsafe(self.before, now, self.project.good) + unsettled(now)
            if now["aliases"] != self.aliases:
                violations.append(f"aliases {now['aliases']} instead of {self.aliases}")
        differing = {name for name, _ in outputs(self.project.root, *self.files).items() ^ self.expected.items()}
        violations += [f"{name} is not as without the fault" for name in sorted(differing)]
        violations += [f"left behind: {name}" for name in debris(self.project.root)]
        outcome = "the next run says what to do" if again.code else "the next run completes"
        if not hit:
            outcome = "the command had ended"
        self.table.add(fault, self.where, outcome, [f"{how}: {violation}" for violation in violations])
        self.violations += [
            f"{how}: {violation} (the command: {ended.code} {ended.output[-300:]})" for violation in violations
        ]

    def assert_nothing_found(self) -> None:
        assert not self.violations, "\n".join(self.violations)
