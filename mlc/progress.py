"""Progress of anything that takes longer than a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> tqdm[T]:
    """A progress bar on a terminal; in a log, a line every ten seconds."""
    return tqdm(items, desc=what, total=total, mininterval=0.2 if sys.stderr.isatty() else 10.0)
