"""The language names that publishers use, as BCP-47 tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import langcodes
import regex

from mlc.errors import MlcError
from mlc.text import quoted


def in_arabic_script(texts: Collection[str]) -> bool:
    """Whether most letters of ``texts`` are Arabic ones."""
    letters = sum(len(regex.findall(r"\p{L}", text)) for text in texts)
    arabic = sum(len(regex.findall(r"[\p{L}&&\p{Script=Arabic}]", text, flags=regex.V1)) for text in texts)
    return 2 * arabic > letters


def normalise(name: str, texts: Collection[str]) -> str:
    """The BCP-47 tag of a language that a publisher calls ``name``: a tag (``zh_CN``, ``arb``) or an English name.

    An individual language becomes the macrolanguage that usually stands for it (``cmn`` -> ``zh``). Data sets say
    ``ku`` for Central Kurdish too, whose tag is ``ckb``: the script of ``texts`` decides, Arabic for ``ckb``.

    Raises:
        MlcError: ``name`` is neither a tag nor a name of a language.
    """
    try:
        tag = langcodes.standardize_tag(name, macro=True) if langcodes.tag_is_valid(name) else None
    except langcodes.LanguageTagError:
        tag = None
    if tag is None:
        try:
            tag = langcodes.find(name).to_tag()
        except LookupError:
            raise MlcError(
                f"{quoted(name)} is neither a BCP-47 language tag nor the English name of a language: rename the column"
            ) from None
    language = langcodes.Language.get(tag)
    northern = name.lower().startswith("kmr")  # which has an Arabic script too
    if language.language == "ku" and not northern and in_arabic_script(texts):
        tag = langcodes.Language.make(language="ckb", territory=language.territory).to_tag()
    return str(tag)


def resolve(columns: Mapping[str, Collection[str]]) -> tuple[dict[str, str], list[str]]:
    """The tag of every language name in ``columns`` {name: its texts}, and a warning for each that is another language.

    Raises:
        MlcError: a name is no language, or two of them are the same.
    """
    tags = {name: normalise(name, texts) for name, texts in columns.items()}
    named: dict[str, str] = {}
    for name, tag in tags.items():
        if tag in named:
            raise MlcError(f"languages {quoted(named[tag])} and {quoted(name)} are both {tag}: rename or remove one")
        named[tag] = name
    warnings = []
    for name, tag in tags.items():
        if tag.startswith("ckb") and not name.lower().startswith("ckb"):
            warnings.append(f"language {quoted(name)} is in Arabic script: taken for Central Kurdish, {tag}")
        elif tag.lower() != name.lower().replace("_", "-"):
            warnings.append(f"language {quoted(name)} is written {tag}")
    return tags, warnings
