"""From BCP-47 tags to the language codes of translation models, as their tokenizers' vocabularies spell them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import langcodes
import regex

Family = Literal["nllb", "m2m", "madlad"]

# How a family writes a language, in the order of trying: a vocabulary holds the codes of one family.
_TOKEN: dict[Family, regex.Pattern[str]] = {
    "nllb": regex.compile(r"([a-z]{3}_[A-Z][a-z]{3})"),
    "m2m": regex.compile(r"__([a-z]{2,3})__"),
    "madlad": regex.compile(r"<2([a-z]{2,3}(?:_[A-Z][a-z]{3})?(?:_[A-Z]{2})?)>"),
}
_UNLINKED = {"pbt": "ps"}  # individual languages that CLDR does not link to what people call the language
_NEAR = 9  # CLDR's distance, beyond any between regional varieties


class Codes(NamedTuple):
    """A family of models, and BCP-47 tag -> token of every language that the vocabulary holds."""

    family: Family
    tokens: dict[str, str]

    def token(self, tag: str) -> str | None:
        """The token for ``tag``; none if the vocabulary holds neither the language nor a regional variety of it."""
        closest, distance = langcodes.closest_match(tag, list(self.tokens), max_distance=_NEAR)
        if closest == "und" or (distance > 1 and _written(closest) != _written(tag)):
            return None
        return self.tokens[closest]


def codes(vocabulary: Iterable[str]) -> Codes | None:
    """The language codes in a tokenizer's vocabulary; none if it holds none of a known family."""
    entries = list(vocabulary)
    for family, pattern in _TOKEN.items():
        code_of = {word: match[1] for word in entries if (match := pattern.fullmatch(word))}
        tokens = {}
        for word, code in code_of.items():
            language, _, rest = code.partition("_")
            tag = "-".join(filter(None, [_UNLINKED.get(language, language), rest.replace("_", "-")]))
            if langcodes.tag_is_valid(tag):
                tokens[tag] = word
        if tokens:
            return Codes(family, tokens)
    return None


def _written(tag: str) -> tuple[str | None, str | None]:
    """Language and script of a tag."""
    whole = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True)).maximize()
    return whole.language, whole.script
