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
_SAME_REGIONS_APART = 4  # CLDR's distance between regional varieties: de and de-CH


class Codes(NamedTuple):
    """A family of models, and BCP-47 tag -> token of every language that the vocabulary holds."""

    family: Family
    tokens: dict[str, str]

    def token(self, tag: str) -> str | None:
        """The token for ``tag``; none if the vocabulary holds neither the language nor a regional variety of it."""
        found, distance = langcodes.closest_match(tag, list(self.tokens), max_distance=_SAME_REGIONS_APART)
        if found == "und" or (distance > 1 and _language(found) != _language(tag)):
            return None
        return self.tokens[found]


def codes(vocabulary: Iterable[str]) -> Codes | None:
    """The language codes in a tokenizer's vocabulary; none if it holds none of a known family."""
    words = list(vocabulary)
    for family, pattern in _TOKEN.items():
        found = {word: match[1] for word in words if (match := pattern.fullmatch(word))}
        tokens = {}
        for word, code in found.items():
            language, _, rest = code.partition("_")
            tag = "-".join(filter(None, [_UNLINKED.get(language, language), rest.replace("_", "-")]))
            if langcodes.tag_is_valid(tag):
                tokens[tag] = word
        if tokens:
            return Codes(family, tokens)
    return None


def _language(tag: str) -> str:
    return str(langcodes.Language.get(langcodes.standardize_tag(tag, macro=True)).language)
