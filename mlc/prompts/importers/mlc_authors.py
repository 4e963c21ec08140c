"""The MLC authors' files (arXiv 2602.16660): a request in English, ``prompt_zh`` and so on its translations."""

from __future__ import annotations

from collections.abc import Iterator

from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.records import Record, Source, read_any
from mlc.prompts.importers.turns import SEVERAL_TURNS, pair_of, read_turns
from mlc.prompts.schema import Provenance

# The prompts are PKU-SafeRLHF's, translated by GPT-4o, and published under its licence.
MLC_AUTHORS = DataSet(
    "MLC",
    "CC-BY-NC-4.0",
    {
        "en": Provenance(translator="PKU-SafeRLHF", licence="CC-BY-NC-4.0"),
        "*": Provenance(translator="gpt-4o", licence="CC-BY-NC-4.0"),
    },
)


def mlc_authors(source: Source) -> Iterator[Draft | LeftOut]:
    """All three layouts.

    ``instruction``, ``input``, ``output``: evaluation, where ``output`` repeats the instruction, and supervised
    training, where it is a response. ``prompt``, ``chosen``, ``rejected``: preference pairs, and the safety test; each
    text is as it is, or in a turn ``{"from": …, "value": …}``.
    """
    for record in read_any(source):
        translations = [name for name in record.fields if name.startswith("prompt_")] or ["prompt_zh"]
        record.need(*translations)
        turns = {name: read_turns(record, name, "user") for name in translations}
        texts = {name.removeprefix("prompt_"): said[0].text for name, said in turns.items() if said}
        given = {language: text for language, text in texts.items() if text}
        if any(len(said) > 1 for said in turns.values()):
            yield LeftOut(record.where, SEVERAL_TURNS)
        elif "instruction" in record.fields:
            yield _supervised(record, given)
        else:
            yield _preferred(record, given)


def _supervised(record: Record, given: dict[str, str]) -> Draft:
    record.need("instruction", "output")
    instruction, output = record.text("instruction"), record.text("output")
    english = "\n".join(part for part in (instruction, record.text("input")) if part)
    return Draft(
        record.where,
        record.fields,
        None,
        "harmful",
        UNSPECIFIED,
        ({"en": english} if english else {}) | given,
        references={"en": output} if output and output not in {english, instruction} else {},
        places=_places(record, given, "instruction") | {"references en": record.place("output")},
    )


def _preferred(record: Record, given: dict[str, str]) -> Draft | LeftOut:
    record.need("prompt", "chosen", "rejected")
    replies = (read_turns(record, name, "assistant") for name in ("chosen", "rejected"))
    pair = pair_of(read_turns(record, "prompt", "user"), *replies)
    if isinstance(pair, str):
        return LeftOut(record.where, pair)
    texts = {"en": pair.request} | given
    places = _places(record, given, "prompt", chosen="chosen", rejected="rejected")
    return Draft(
        record.where, record.fields, None, "harmful", UNSPECIFIED, texts, pair.chosen, pair.rejected, places=places
    )


def _places(record: Record, given: dict[str, str], english: str, **more: str) -> dict[str, str]:
    fields = {"en": english} | {language: f"prompt_{language}" for language in given} | more
    return {name: record.place(field) for name, field in fields.items()}
