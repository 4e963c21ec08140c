"""Progress of anything that takes longer than a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None, *, unit: str = "it", before: int = 0) -> tqdm[T]:
    """A progress bar on a terminal; in a log, a line every ten seconds. Both show units per second and the time left.

    ``before``: how many of ``total`` an earlier run has done; they do not count towards the speed.
    """
    every = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(items, desc=what, total=total, unit=f" {unit}", initial=before, mininterval=every)
