"""The project that faults are injected into, made once, and the table of faults at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from building import build
from harness import Project
from invariants import Table

_table = Table()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _table.counts:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(_table.lines()))
        total = sum(_table.counts.values())
        terminalreporter.write_line(f"\n{total} faults, {len(_table.violations)} violations")
        terminalreporter.write_line("\n".join(_table.violations))


@pytest.fixture(scope="session")
def table() -> Table:
    return _table


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """A fork copies no thread but the one that forks, and all the locks that the others hold."""
    import torch
    import tqdm

    torch.set_num_threads(1)
    tqdm.tqdm.monitor_interval = 0


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, _one_thread: None, tiny_base: Path) -> Project:
    return build(tmp_path_factory.mktemp("faults"), tiny_base)
