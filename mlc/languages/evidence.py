"""What of a text says in which language it is: its words, without code, addresses, quotations and names."""

from __future__ import annotations

import regex

# Fenced and inline code, addresses of the web and of mail, tags, commands of LaTeX.
_CODE = regex.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`|\b\w+://\S+|\bwww\.\S+|\S+@\S+\.\w+|</?\w[^<>\n]*>|\$[^$\n]+\$|\\\w+",
    regex.DOTALL,
)
# A line of code, fenced or not: what calls, assigns, ends in a bracket or semicolon, or begins as few sentences do.
_LINE_OF_CODE = regex.compile(
    r"\w\((?!s\))[^()]*\)|[\w\])]\s?(?:[-+*/|&<>=!:]?=|->|=>|::|\+\+|&&|\|\|)\s?\S|[;{}]\s*$|^\s*[})\]]"
    r"|^\s*(?:#include|#!/|import\s\w+$|from\s\S+\simport\s|def\s\w+\(|class\s\w+[:({]|SELECT\s.+\sFROM\s"
    r"|(?:sudo|pip|npm|git|docker|curl|cd|ls)\s\S+)"
)
# Quoted words, which may be in any language. A quotation ends on its line, within a few hundred letters.
_QUOTED = regex.compile(
    r"«[^«»\n]{1,400}»|“[^“”\n]{1,400}”|„[^„“”\n]{1,400}[“”]|「[^「」\n]{1,400}」|『[^『』\n]{1,400}』"
    r"|(?<!\w)\"[^\"\n]{1,400}\"(?!\w)"
)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}_'’\-]+")
_LETTER = regex.compile(r"\p{L}")
_SIGN = regex.compile(r"[\p{L}\p{M}]")  # the vowels of Indic scripts are marks
# A sign of these stands for a syllable or a word, and says more than a letter.
_DENSE = ((regex.compile(r"\p{Han}"), 3), (regex.compile(r"[\p{Hangul}\p{Hiragana}\p{Katakana}\p{Ethiopic}\p{Yi}]"), 2))
_ENDS_SENTENCE = frozenset(".!?:;…。！？։।\n\"'“”«»()[]-–—•*")


def prose(text: str) -> str:
    """``text`` without code, addresses and quotations."""
    kept = _CODE.sub(" ", text)
    if "(" in kept or "=" in kept or "{" in kept or ";" in kept or "import " in kept or "->" in kept or "::" in kept:
        kept = "\n".join(line for line in kept.split("\n") if not _LINE_OF_CODE.search(line))
    return str(_QUOTED.sub(" ", kept))


def words_of(text: str) -> list[str]:
    """The words of a prose that are no names and hold no digits.

    A name is a word with a capital letter that begins no sentence; one in capitals alone is an abbreviation, unless the
    whole text is.
    """
    shouting = text.isupper()
    words = []
    for match in _WORD.finditer(text):
        word = match[0]
        if not word.isalpha() and (not _LETTER.search(word) or any(character.isdecimal() for character in word)):
            continue
        if not shouting and word[0].isupper():
            before = text[: match.start()].rstrip(" \t")
            if (before and before[-1] not in _ENDS_SENTENCE) or (len(word) > 1 and word.isupper()):
                continue
        words.append(word)
    return words


def weight(words: list[str]) -> int:
    """How much words say: their letters, where a sign that stands for a syllable or a word counts as two or three."""
    joined = "".join(words)
    if joined.isascii():
        return sum(map(str.isalpha, joined))
    return len(_SIGN.findall(joined)) + sum((each - 1) * len(signs.findall(joined)) for signs, each in _DENSE)
