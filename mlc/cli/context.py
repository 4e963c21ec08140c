"""The project that a command works on. It comes before the import of what the command runs, which can take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mlc.paths import Paths
    from mlc.settings import Settings


def project() -> tuple[Settings, Paths]:
    """The settings and files of the working directory.

    Raises:
        MlcError: params.yaml is missing or not valid.
    """
    from mlc.paths import Paths
    from mlc.settings import load_settings

    paths = Paths()
    return load_settings(paths.params), paths


def checked_licence(name: str | None) -> str | None:
    """``--licence`` in SPDX's spelling; a usage error where it is no SPDX expression."""
    from mlc.licences import checked

    try:
        return None if name is None else checked(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def pinned_project() -> tuple[Settings, Paths]:
    """``project`` for a stage, whose result has to be of the code that mlc.lock names, where there is one.

    Raises:
        MlcError: also where the installed package has other code.
    """
    from mlc.project import lock
    from mlc.provenance.code import LOCK

    settings, paths = project()
    lock.check(paths.root / LOCK)
    return settings, paths


@contextmanager
def recorded_stage(name: str) -> Iterator[tuple[Settings, Paths]]:
    """``pinned_project`` for a stage that decides about a model: what it ran with is recorded when the block ends.

    Raises:
        MlcError: as ``pinned_project``.
    """
    settings, paths = pinned_project()
    from mlc.provenance.record import recorded

    with recorded(name, paths):
        yield settings, paths
