"""Progress of anything that takes longer than a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress_bar(what: str | None, total: int, *, unit: str = "prompts", before: int = 0) -> tqdm[Any]:
    """:func:`track` for what is done in batches, whose sizes go to its ``update``; ``what`` None shows nothing.

    ``before``: how many of ``total`` an earlier run has done; they do not count towards the speed.
    """
    return tqdm(desc=what, total=total, unit=f" {unit}", initial=before, mininterval=_interval(), disable=what is None)


def track(items: Iterable[T], what: str, total: int | None = None, *, unit: str = "it") -> tqdm[T]:
    """A progress bar on a terminal; in a log, a line every ten seconds. Both show the speed and the time left."""
    return tqdm(items, desc=what, total=total, unit=f" {unit}", mininterval=_interval())


def _interval() -> float:
    return 0.2 if sys.stderr.isatty() else 10.0
