"""Texts of unknown origin on a terminal: nothing in them acts, and their length is bounded."""

from __future__ import annotations

LONGEST = 200  # characters shown of one text
_BEFORE = 40  # characters shown before the first difference of two texts


def shown(text: str, start: int = 0, longest: int = LONGEST) -> str:
    """``text`` in quotes from ``start`` on, with control, bidirectional and other invisible characters as escapes.

    Python's own ``repr`` escapes exactly these, and lone surrogates; what is left out is said.
    """
    part = repr(text[start : start + longest])
    left = len(text) - start - longest
    before = f"({start:,} characters) … " if start else ""
    return f"{before}{part}{f' … ({left:,} characters more)' if left > 0 else ''}"


def shown_name(name: str) -> str:
    """An id, tag or field name: as it is where that is harmless, else as ``shown``."""
    return name if name.isprintable() and len(name) <= LONGEST else shown(name)


def shown_pair(old: str, new: str) -> tuple[str, str]:
    """Two versions of a text, both from shortly before their first difference on."""
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _BEFORE) if same > LONGEST - _BEFORE else 0
    return shown(old, start), shown(new, start)
