"""Language tags (BCP-47), as the settings and the prompt rows have them."""

from __future__ import annotations

from typing import Annotated

import langcodes
from pydantic import AfterValidator


def check_language(tag: str) -> str:
    """Returns ``tag`` if it is a valid BCP-47 tag in its standard spelling, raises ``ValueError`` otherwise."""
    try:
        standard = langcodes.standardize_tag(tag) if langcodes.tag_is_valid(tag) else None
    except langcodes.LanguageTagError:
        standard = None
    if standard is None:
        raise ValueError(f"{tag!r} is not a BCP-47 language tag (such as en, sw, zh-Hant)")
    if standard != tag:
        raise ValueError(f"{tag!r} is not in standard form: write {standard!r}")
    return tag


LanguageTag = Annotated[str, AfterValidator(check_language)]


def language_name(tag: str) -> str:
    """The English name of a language: ``sw`` -> ``Swahili``."""
    return str(langcodes.Language.get(tag).display_name())
