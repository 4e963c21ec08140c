"""Texts that come from data, made harmless where they are shown: a terminal, a Markdown page.

A prompt set is read by people, and its texts come from anywhere: an escape sequence would drive the terminal, a
right-to-left override would show another text than the model is given, a tag would run in the page.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200  # characters shown of one text
_BEFORE = 40  # characters shown before the first difference of two texts
_JOINERS = "\u200c\u200d"
# All of what may begin something in CommonMark, its tables, autolinks, GitHub's mathematics and emoji.
_MARKDOWN = re.compile(r"""[\\`*_{}\[\]()<>"&#|~^$:@!]|(?<=www)\.""", re.IGNORECASE)


def visible(text: str) -> str:
    r"""``text`` on one line, with what cannot be seen, or acts, as in a Python literal: ``\n``, ``\x1b``, ``\u202e``.

    Two texts never look the same: a backslash is doubled. Joiners stay where Arabic and Indic scripts need them, after
    a letter without case or a mark.
    """
    shown, before = [], ""
    for character in text:
        joins = character in _JOINERS and before != "" and unicodedata.category(before) in ("Lo", "Mn", "Mc")
        space = unicodedata.category(character) == "Zs"
        plain = character != "\\" and (character.isprintable() or space or joins)
        shown.append(character if plain else character.encode("unicode_escape").decode("ascii"))
        before = character
    return "".join(shown)


def markdown(text: str) -> str:
    """``text`` as plain words of a Markdown page: no markup, no HTML, no link, on one line."""
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", visible(text)).strip()


def shown(text: str, start: int = 0, longest: int = LONGEST) -> str:
    """``text`` from ``start`` on as a Python literal, in quotes; what is left out is said."""
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
