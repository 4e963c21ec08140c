"""Columns called Kurdish that hold two languages: Sorani in Arabic letters, and Kurmanji in Latin ones.

``ku`` stands for both, and a translator that is asked for Kurdish gives now one and now the other: of the MLC authors'
157 and 180 texts, 34 and 46 are Kurmanji. Most of a column's letters name it (``mlc.prompts.language_names``); the
texts in the other script are a language of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import langcodes
import regex

from mlc.prompts.importers.drafts import Draft
from mlc.prompts.language_names import in_arabic_script
from mlc.text import quoted

KURMANJI, SORANI = "ku", "ckb"
FEWEST_LETTERS = 8  # of a text, to go by its script


def kurdish_by_script(drafts: Sequence[Draft]) -> tuple[list[Draft], list[str]]:
    """The drafts, where a column called Kurdish holds both languages with each text under its own, and warnings of it.

    Where the set has a column of the other language beside it, nothing is moved: the set then says which is which.
    """
    drafts, warnings = list(drafts), []
    names = dict.fromkeys(name for draft in drafts for name in draft.texts)
    for name in filter(_is_kurdish, names):
        texts = [draft.texts[name] for draft in drafts if name in draft.texts]
        arabic = in_arabic_script(texts)
        most = regex.compile(rf"\p{{Script={'Arabic' if arabic else 'Latin'}}}")
        odd = {text for text in texts if not most.search(text) and len(regex.findall(r"\p{L}", text)) >= FEWEST_LETTERS}
        if not odd or {KURMANJI, SORANI, "kmr"} & names.keys() - {name}:
            continue
        usual, other = (SORANI, KURMANJI) if arabic else (KURMANJI, SORANI)
        drafts = [_renamed(draft, name, other if draft.texts.get(name) in odd else usual) for draft in drafts]
        moved = sum(text in odd for text in texts)
        warnings.append(
            f"{quoted(name)} holds two languages: {len(texts) - moved} texts are taken for {usual} and {moved}, in "
            f"{'Latin' if arabic else 'Arabic'} script, for {other}"
        )
    return drafts, warnings


def _is_kurdish(name: str) -> bool:
    try:
        return str(langcodes.find(name).language if len(name) > 3 else name.lower()) == "ku"
    except LookupError:
        return False


def _renamed(draft: Draft, old: str, new: str) -> Draft:
    def rename(by_language: dict[str, str]) -> dict[str, str]:
        return {new if name == old else name: value for name, value in by_language.items()}

    return dataclasses.replace(
        draft,
        texts=rename(draft.texts),
        references=rename(draft.references),
        back_translations=rename(draft.back_translations),
        places=rename(dict(draft.places)),
    )
