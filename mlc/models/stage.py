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
    from mlc.models.chat_template import thinks_note

    template = bases.place(base, paths.root, paths.base)
    if template.end is None:
        print(
            "base: WARNING: its chat template ends a reply with no special token: replies run on until"
            " evaluate.max_new_tokens"
        )
    elif not template.is_stop:
        print(
            f"base: its chat template ends a reply with {template.end}, which its own settings do not stop at: replies"
            " stop there too"
        )
    if template.thinks:
        print(f"base: {thinks_note(template)}")
