"""What a translation must leave as it is: placeholders, code, links, names, and the values of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal

import regex

# In this order: what is inside an earlier kind is not looked for again.
_LITERAL = regex.compile(
    r"""
      (?<code>      ```.+?``` | `[^`\n]+` )
    | (?<link>      (?i:https?|ftp)://[^\s<>"'`{}|\\^\p{Pi}\p{Pf}\p{Ps}、。，！？；：]*[\p{L}\p{N}/_=&\#~+-] )
    | (?<mail>      (?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+ )
    | (?<brace>     \{\{\s*[\w.|-]+\s*\}\} | \$?\{[\w.:!\[\]-]*\} )
    | (?<printf>    (?<![\p{N}%])%(?:\(\w+\))?[-+\#0]*\d*(?:\.\d+)?[sdifgexXcru](?![\p{L}\p{N}]) )
    | (?<tag>       </?[A-Za-z][\w-]*(?:\s(?:[^<>\n]*=[^<>\n]*)?)?/?> )
    | (?<mask>      \[[A-Z][A-Z0-9_ ]*\] )
    | (?<handle>    (?<![\w@\#&./])[@\#][\p{L}_][\p{L}\p{M}\p{N}_]* )
    | (?<word>      (?<![\p{L}\p{M}\p{N}_])[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+(?![\p{L}\p{M}\p{N}_]) )
    """,
    regex.VERBOSE | regex.DOTALL,
)
# Any of these has one of these signs: most texts have none, and need not be searched.
_MAY_HOLD_LITERAL = regex.compile(r"[`/@#{%<\[_]")
# Inner capitals: TensorFlow, iPhone. Other scripts transliterate such names, so they are asked of Latin texts alone.
_LATIN_NAME = regex.compile(r"(?<![\p{L}\p{N}_])[A-Za-z]*[a-z][A-Z][A-Za-z]*(?![\p{L}\p{N}_])")
_LATIN_LETTER = regex.compile(r"\p{Latin}")
_LETTER = regex.compile(r"\p{L}")
NUMBER = regex.compile(
    r"""
      (?<![\p{Nd}]|[\p{Nd}][.,٫٬'’])\p{Nd}{1,3}(?:[ \u00a0\u2009\u202f]\p{Nd}{3})+(?:[.,٫]\p{Nd}+)?(?![.,٫]?\p{Nd})
    | \p{Nd}+(?:[.,٫٬'’]\p{Nd}+)*
    """,
    regex.VERBOSE,
)
_SPACE = regex.compile(r"[ \u00a0\u2009\u202f]")
_GOES_ON = regex.compile(r"[.,!?;:]*[A-Za-z0-9/_=&#~+-]")  # of a link; Chinese may follow one without a space
_APOSTROPHE = regex.compile(r"(?<=\d)['’](?=\d{3}(?!\d))")
# Grouping sign, decimal sign, and what a number with them is like; in India, groups before the last have two digits.
_FORMS = [
    (group, point, regex.compile(rf"(?:\d+|[1-9]\d{{0,2}}(?:[{group}]\d{{2,3}})*[{group}]\d{{3}})(?:[{point}]\d+)?"))
    for group, point in (",.", ".,")
]
_PART_OF_A_NAME = regex.compile(r"(?<=\p{L})\p{Nd}{1,2}(?!\p{Nd}|[.,٫٬]\p{Nd})")  # WW2, CO2: names are translated
_WORD_BEFORE = regex.compile(r"\p{L}+\Z")
_ROMAN = regex.compile(r"(?<![\p{L}\p{N}])(?=[IVXL]{2})(XL|L?X{0,3})(IX|IV|V?I{0,3})(?![\p{L}\p{N}])")
_ROMAN_SIGN = {"I": 1, "V": 5, "X": 10, "L": 50}
_HAN_NUMBER = regex.compile(r"[〇零一二三四五六七八九两兩十百千万萬亿億]+")
_HAN_DIGIT = {sign: value for value, signs in enumerate(("〇零", "一", "二两兩", *"三四五六七八九")) for sign in signs}
_HAN_POWER = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}

Readings = frozenset[Decimal]


def lost(source: str, translation: str, names: Collection[str] = ()) -> list[str]:
    """What ``source`` holds and ``translation`` does not, or less often; in the source's order, empty if all is there.

    Code spans, links, mail addresses, placeholders (``{x}``, ``{{x}}``, ``${x}``, ``%s``, ``%(x)d``, ``<tag>``,
    ``[MASK]``), ``@names``, ``#tags``, ``snake_case`` and ``names`` have to be the same to the letter; names with
    inner capitals too, where the translation is in the Latin script. Numbers are compared by value: ``٣`` is ``3``,
    ``三十`` is ``30``, ``21st`` may be ``XXI``, ``1,234.5`` is ``1.234,5``; an ambiguous ``1,234`` may become either of
    its values. One or two digits right after a letter (``CO2``) are part of a name, and words between angle brackets
    (``<name of the town>``) are words; the digits are lost where the name's letters are there without them.

    Fails on: a number that is rightly written as a word or with another unit (``3 million`` as ``300万``, ``5/6/2024``
    with the month's name; see ``amounts`` for prices), proper names of one capital (those that must stay are given as
    ``names``), and two things that swap places.
    """
    gone: list[tuple[int, str]] = []
    rest = source
    literals = list(_LITERAL.finditer(source)) if _MAY_HOLD_LITERAL.search(source) else []
    if literals:
        gone += _less_often([(m.start(), m.group(), m.lastgroup == "link") for m in literals], translation)
        rest = _LITERAL.sub(lambda m: " " * len(m.group()), source)
    known = [(i, name, False) for name in names for i in _places(name, rest, False)]
    latin = [(m.start(), m.group(), False) for m in _LATIN_NAME.finditer(rest) if m.group() not in names]
    if latin and 2 * len(_LATIN_LETTER.findall(translation)) > len(_LETTER.findall(translation)):
        known += latin
    gone += _less_often(known, translation)
    numbers = [m for m in NUMBER.finditer(rest) if not _in_translated_name(rest, m.start(), translation)]
    if numbers:
        outside = _LITERAL.sub(lambda m: " " * len(m.group()), translation)
        gone += _numbers_lost([(m.start(), m.group()) for m in numbers], outside)
    return [text for _, text in sorted(gone)]


def _in_translated_name(source: str, start: int, translation: str) -> bool:
    """Whether a number is part of a name (WW2) whose letters the translation has not either."""
    if not _PART_OF_A_NAME.match(source, start):
        return False
    letters = _WORD_BEFORE.search(source[:start])
    return letters is not None and letters[0].casefold() not in translation.casefold()


def _less_often(pieces: Sequence[tuple[int, str, bool]], text: str) -> list[tuple[int, str]]:
    """Those (position, piece, is a link) that ``text`` has not as often; the last ones of a piece are the lost ones."""
    left = Counter({piece: sum(1 for _ in _places(piece, text, link)) for _, piece, link in pieces})
    gone = []
    for start, piece, _ in pieces:
        left[piece] -= 1
        if left[piece] < 0:
            gone.append((start, piece))
    return gone


def _places(piece: str, text: str, link: bool) -> Iterator[int]:
    at = text.find(piece)
    while at >= 0:
        if not (link and _GOES_ON.match(text, at + len(piece))):
            yield at
        at = text.find(piece, at + len(piece))


def _numbers_lost(wanted: Sequence[tuple[int, str]], translation: str) -> list[tuple[int, str]]:
    numbers = [m.group() for m in NUMBER.finditer(translation)]
    missing = _unmatched(wanted, numbers)
    if missing:  # once more, with what a number may have become: parts, Chinese and Roman numerals
        parts = [part for text in numbers for part in (_parts(text) if len(_parts(text)) > 1 else [text])]
        other = [str(value) for value in (*_han_numbers(translation), *_roman_numbers(translation))]
        split = [(start, part) for start, text in wanted for part in (_parts(text) if _SPACE.search(text) else [text])]
        missing = min((_unmatched(w, t) for w in (wanted, split) for t in (numbers + other, parts + other)), key=len)
    return missing


def _unmatched(wanted: Iterable[tuple[int, str]], available: Iterable[str]) -> list[tuple[int, str]]:
    """Pairs each wanted number with one that has a value in common, equal ones first; returns those left alone."""
    pool = Counter(reading for text in available for reading in _readings(text))
    rest: list[tuple[int, str, Readings]] = []
    for start, text in wanted:
        for reading in _readings(text):
            if pool[reading]:
                pool[reading] -= 1
            else:
                rest.append((start, text, reading))
    missing = []
    for start, text, reading in rest:
        match = next((other for other, count in pool.items() if count and other & reading), None)
        if match is None:
            missing.append((start, text))
        else:
            pool[match] -= 1
    return missing


def _parts(text: str) -> list[str]:
    return list(regex.findall(r"\p{Nd}+", text))


def _readings(text: str) -> Iterator[Readings]:
    """The values that a number may have; several numbers where it is none (``10.5.2024``, ``3.11.2``)."""
    plain = "".join(str(int(c)) if c.isdecimal() else c for c in _SPACE.sub("", text))
    plain = plain.replace("٬", ",").replace("٫", ".") if "." not in plain else plain
    plain = _APOSTROPHE.sub("", plain)
    values = {
        Decimal(plain.replace(group, "").replace(point, ".")) for group, point, form in _FORMS if form.fullmatch(plain)
    }
    if values:
        yield frozenset(values)
    else:
        yield from (frozenset([Decimal(part)]) for part in _parts(plain))


def _roman_numbers(text: str) -> Iterator[int]:
    for numeral in _ROMAN.finditer(text):
        signs = [_ROMAN_SIGN[sign] for sign in numeral[0]]
        yield sum(-sign if sign < after else sign for sign, after in zip(signs, [*signs[1:], 0], strict=True))


def _han_numbers(text: str) -> Iterator[int]:
    for numeral in _HAN_NUMBER.findall(text):
        if not any(sign in _HAN_POWER for sign in numeral):
            yield int("".join(str(_HAN_DIGIT[sign]) for sign in numeral))
            continue
        total, section, digit = 0, 0, 0
        for sign in numeral:
            if sign in _HAN_DIGIT:
                digit = _HAN_DIGIT[sign]
            elif _HAN_POWER[sign] < 10**4:
                section += (digit or 1) * _HAN_POWER[sign]
                digit = 0
            else:
                total += (section + digit or 1) * _HAN_POWER[sign]
                section, digit = 0, 0
        yield total + section + digit
