"""What the characters of one text show, without its source text.

Every function takes texts (null where a row lacks the language) and returns one value per text, null for a null.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import langcodes
import regex
from ftfy.badness import is_bad

# What nobody sees and a tokenizer does: control characters other than tab and line ends, embeddings, overrides and
# isolates of direction, other format characters (zero-width space, tags, a second byte-order mark), private use,
# unassigned, and the sign for what could not be decoded. Joiners and direction marks are spelling in many languages.
_CONTROL = regex.compile(
    r"[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\uFFFD--[\t\n\r\u00AD\u061C\u200C-\u200F\u0600-\u0605\u06DD\u070F\u08E2]]",
    regex.VERSION1,
)
_FLAG = regex.compile(r"\U0001F3F4[\U000E0020-\U000E007E]+\U000E007F")  # flags of nations are spelled with tags
# Scripts without spaces, in which a zero-width space marks where a line may break.
_BREAKS = {"Thai", "Khmr", "Laoo", "Mymr", "Tibt", "Java"}
# Beside a space or at an end a zero-width space hides and parts nothing; machine translation leaves them there.
_AT_A_BREAK = regex.compile(r"(?:(?<=\s)|\A)\u200b+|\u200b+(?=\s|\Z)")
_ENCODINGS = ("cp1251", "cp1252", "latin-1", "cp437", "cp866", "mac_roman")
_WINDOW = 12  # characters; longer than a word that a request rightly repeats


def normalise(text: str) -> str:
    """``text`` without case, punctuation, and differences of spacing or of Unicode form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(regex.findall(r"[\p{L}\p{M}\p{N}]+", folded))


def has_letters(texts: Sequence[str | None]) -> list[bool]:
    return [text is not None and regex.search(r"\p{L}", text) is not None for text in texts]


def empty(texts: Sequence[str | None]) -> list[bool | None]:
    """Whether the text holds no letter.

    Fails on: a request that truly is only digits or signs ("2 + 2 = ?").
    """
    return [None if text is None else not lettered for text, lettered in zip(texts, has_letters(texts), strict=True)]


def characters(texts: Sequence[str | None]) -> list[int | None]:
    """How long the text is. What is too long is left out of all other checks, which would take minutes over it.

    Fails on: nothing, but says nothing about quality below the limit.
    """
    return [None if text is None else len(text) for text in texts]


def control_characters(texts: Sequence[str | None], language: str) -> list[str | None]:
    """The first invisible or undecodable character, as ``U+202E RIGHT-TO-LEFT OVERRIDE``; ``""`` where there is none.

    Fails on: characters newer than Python's Unicode tables, which pass for unassigned.
    """
    allowed = "\u200b" if langcodes.Language.get(language).maximize().script in _BREAKS else ""
    return [None if text is None else _first_control(text, allowed) for text in texts]


def _first_control(text: str, allowed: str) -> str:
    if text.isascii() and text.isprintable():
        return ""
    text = _FLAG.sub("", text) if "\U0001f3f4" in text else text
    for match in _CONTROL.finditer(_AT_A_BREAK.sub("", text) if "\u200b" in text else text):
        if match.group() not in allowed:
            name = unicodedata.name(match.group(), "control" if match.group() < "\xa0" else "private or unassigned")
            return f"U+{ord(match.group()):04X} {name}"
    return ""


def mojibake(texts: Sequence[str | None]) -> list[bool | None]:
    """Whether the text was decoded with the wrong encoding (``Ã±`` for ``ñ``): by ftfy's rules, or because it turns
    into other valid UTF-8 when that is undone.

    Fails on: what was lost altogether (``?????``; see ``empty``), and a text that is about mojibake.
    """
    return [None if text is None else _is_mojibake(text) for text in texts]


def _is_mojibake(text: str) -> bool:
    if text.isascii():
        return False
    if is_bad(text):
        return True
    foreign = "".join(regex.findall(r"[^\x00-\x7f]+", text))
    if len(foreign) < 4 and not regex.search(r"[A-Za-z]\p{Cyrillic}", text):  # a Cyrillic letter in a Latin word: cafГ©
        return False
    for encoding in _ENCODINGS:
        try:
            undone = foreign.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        if len(undone) < len(foreign):
            return True
    return False


def repetition(texts: Sequence[str | None], sources: Sequence[str | None]) -> list[float | None]:
    """Share of the text's stretches of 12 characters that it has more than once, beyond the source text's own share.

    0 for a text that never repeats itself, near 1 for a translator that was caught in a loop. Fails on: repetition of
    single short texts ("no no"), and a rightly repetitive text without a source text.
    """
    return [
        None if text is None else max(0.0, _repeated(text) - (_repeated(source) if source else 0.0))
        for text, source in zip(texts, sources, strict=True)
    ]


def _repeated(text: str) -> float:
    windows = len(text) - _WINDOW + 1
    if windows <= 0:
        return 0.0
    return 1 - len({text[start : start + _WINDOW] for start in range(windows)}) / windows
