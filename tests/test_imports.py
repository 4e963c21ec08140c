"""Dependencies run one way, as pyproject.toml says: from the command line and flows over stages to the ground."""

from __future__ import annotations

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_rooms_import_those_below_them_and_stages_no_stages() -> None:
    assert lint_imports(no_cache=True, no_logo=True) == EXIT_STATUS_SUCCESS
