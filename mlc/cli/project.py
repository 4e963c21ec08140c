"""The project that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc.paths import Paths
    from mlc.settings import Settings


def project() -> tuple[Settings, Paths]:
    """The settings and files of the working directory.

    Raises:
        MlcError: params.yaml is missing or not valid, or mlc.lock is of another code than the installed one.
    """
    from mlc import lock
    from mlc.paths import Paths
    from mlc.settings import load_settings

    paths = Paths()
    settings = load_settings(paths.params)
    lock.check(paths.root / lock.NAME)
    return settings, paths
