"""The base stage: the base model, put in place."""

from __future__ import annotations

from mlc.models import base as bases
from mlc.paths import Paths
from mlc.settings import Base


def run(base: Base, paths: Paths) -> None:
    """Puts the base model into ``artifacts/base``.

    Raises:
        MlcError: see :func:`mlc.models.base.place`.
    """
    bases.place(base, paths.root, paths.base)
