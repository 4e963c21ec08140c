"""Texts that come from data, made harmless where they are shown: a terminal, a Markdown page.

A prompt set is read by people, and its texts come from anywhere: an escape sequence would drive the terminal, a
right-to-left override would show another text than the model is given, a tag would run in the page.
"""

from __future__ import annotations

import re
import unicodedata

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
