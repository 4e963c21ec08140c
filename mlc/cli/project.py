"""The project that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
