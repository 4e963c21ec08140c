"""How the published data sets are laid out. A layout reads a source and yields drafts, and what it leaves out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.polyrefuse import POLYREFUSE, polyrefuse
from mlc.prompts.importers.records import Format, Record, Source, read, read_csv, read_json
from mlc.prompts.schema import Intent, Provenance
from mlc.text import quoted

HUMAN = Provenance(translator="human")
Layout = Callable[[Source], Iterator[Draft | LeftOut]]

SAFETY_LABELS = ("is_response_0_safe", "is_response_1_safe", "safer_response_id")
PKU_SAFERLHF = DataSet("PKU-SafeRLHF", "CC-BY-NC-4.0", {}, split="train")
# Its prompts are PKU-SafeRLHF's, translated by GPT-4o (arXiv 2602.16660), and published under its licence.
MLC_AUTHORS = DataSet(
    "MLC",
    "CC-BY-NC-4.0",
    {
        "en": Provenance(translator="PKU-SafeRLHF", licence="CC-BY-NC-4.0"),
        "*": Provenance(translator="gpt-4o", licence="CC-BY-NC-4.0"),
    },
)
MULTIJAIL = DataSet("MultiJail", "MIT", {"*": HUMAN})
XSTEST = DataSet("XSTest", "CC-BY-4.0", {"*": HUMAN})


def pku_saferlhf(source: Source) -> Iterator[Draft | LeftOut]:
    """PKU-SafeRLHF (arXiv 2406.15513): two responses to a prompt, each labelled safe or unsafe.

    A pair is taken where exactly one response is safe: it is chosen, the other rejected. Both unsafe: the safer one is
    still unsafe, and training would teach it. Both safe: nothing says that the request is harmful. The order by
    ``better_response_id`` is of helpfulness and not looked at.
    """
    forms: dict[str, Format] = {".jsonl": "jsonl", ".json": "json", ".parquet": "parquet"}
    if source.path.is_file() and (source.path.suffix not in forms or source.config):
        raise MlcError(f"{source.path}: a *.jsonl, *.json or *.parquet of PKU-SafeRLHF is needed, without --config")
    for record in read(source, forms[source.path.suffix] if source.path.is_file() else "hub"):
        record.need("prompt", "response_0", "response_1", *SAFETY_LABELS)
        safe = [_flag(record, f"is_response_{k}_safe") for k in (0, 1)]
        prompt, *responses = (record.text(name) for name in ("prompt", "response_0", "response_1"))
        if not prompt:
            yield LeftOut(record.where, "no prompt")
        elif all(safe):
            yield LeftOut(record.where, "both responses are safe: nothing says that the request is harmful")
        elif not any(safe):
            yield LeftOut(record.where, "both responses are unsafe: neither may be taught")
        elif record.fields["safer_response_id"] != safe.index(True):
            yield LeftOut(record.where, "the labels contradict each other: the safer response is labelled unsafe")
        elif not all(responses):
            yield LeftOut(record.where, "a response is empty")
        else:
            chosen, rejected = (responses[safe.index(value)] for value in (True, False))
            harms = record.fields.get(f"response_{safe.index(False)}_harm_category")  # not in the first revisions
            present = [name for name, value in harms.items() if value] if isinstance(harms, dict) else []
            category = "; ".join(present) or UNSPECIFIED
            texts = {"en": prompt}
            yield Draft(record.where, record.fields, None, "harmful", category, texts, chosen, rejected)


def _flag(record: Record, name: str) -> bool:
    value = record.fields[name]
    if not isinstance(value, bool):
        raise MlcError(f"{record.where}, field {name}: true or false is needed, not {quoted(str(value))}")
    return value


def mlc_authors(source: Source) -> Iterator[Draft | LeftOut]:
    """The files of the MLC authors (arXiv 2602.16660), in both layouts; ``prompt_zh`` and so on are translations.

    ``instruction``, ``input``, ``output``: evaluation, where ``output`` repeats the instruction, and supervised
    training, where it is a response. ``prompt``, ``chosen``, ``rejected``: preference pairs, each text in a turn
    ``{"from": …, "value": …}``.
    """
    for record in read_json(source.path):
        turns = {name: _text_of_turn(record, name) for name in record.fields}
        flat = Record(record.where, turns)
        texts = {name.removeprefix("prompt_"): flat.text(name) for name in turns if name.startswith("prompt_")}
        given: dict[str, str] = {name: text for name, text in texts.items() if text}
        if any(isinstance(value, list) and len(value) != 1 for value in record.fields.values()):
            yield LeftOut(record.where, "a conversation of several turns")
        elif "instruction" in turns:
            flat.need("output")
            parts = [part for part in (flat.text("instruction"), flat.text("input")) if part]
            english, output = "\n".join(parts), flat.text("output")
            references = {"en": output} if output and output not in {english, flat.text("instruction")} else {}
            texts_ = ({"en": english} if english else {}) | given
            yield Draft(record.where, record.fields, None, "harmful", UNSPECIFIED, texts_, references=references)
        else:
            flat.need("prompt", "chosen", "rejected")
            prompt, chosen, rejected = (flat.text(name) for name in ("prompt", "chosen", "rejected"))
            if not chosen or not rejected:
                yield LeftOut(record.where, "a response is empty")
            else:
                texts_ = ({"en": prompt} if prompt else {}) | given
                yield Draft(record.where, record.fields, None, "harmful", UNSPECIFIED, texts_, chosen, rejected)


def _text_of_turn(record: Record, name: str) -> Any:
    """The text of a conversation of one turn; anything else as it is."""
    value = record.fields[name]
    turn = value[0] if isinstance(value, list) and value else value
    if isinstance(turn, dict):
        Record(f"{record.where}, field {quoted(name)}", turn).need("value")
        return turn["value"]
    return turn


def multijail(source: Source) -> Iterator[Draft | LeftOut]:
    """MultiJail's CSV (arXiv 2310.06474): id, source, tags, and one column per language."""
    for record in read_csv(source.path):
        record.need("id", "source", "tags", "en")
        names = [name for name in record.fields if name not in ("id", "source", "tags")]
        texts = {name: text for name in names if (text := record.text(name))}
        category = _listed(record.text("tags")) or UNSPECIFIED
        yield Draft(record.where, record.fields, record.text("id"), "harmful", category, texts)


def _listed(text: str | None) -> str:
    """``"['Theft', 'Weapons']"`` -> ``Theft; Weapons``."""
    try:
        value = ast.literal_eval(text or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text or ""
    return "; ".join(map(str, value)) if isinstance(value, list) else text or ""


def xstest(source: Source) -> Iterator[Draft | LeftOut]:
    """XSTest's CSV (arXiv 2308.01263): safe requests that look unsafe, and their unsafe contrasts.

    Both are imported: the safe ones as benign, which over-refusal is measured on. Where there is no ``label``, the
    types that begin with ``contrast_`` are the unsafe ones.
    """
    labels: dict[str, Intent] = {"safe": "benign", "unsafe": "harmful"}
    for record in read_csv(source.path):
        record.need("id", "prompt", "type")
        kind = record.text("type") or UNSPECIFIED
        label = record.text("label") if "label" in record.fields else "unsafe" if "contrast_" in kind else "safe"
        prompt = record.text("prompt")
        if label not in labels:
            yield LeftOut(record.where, f"label {quoted(label or '')} is neither safe nor unsafe")
        else:
            texts = {"en": prompt} if prompt else {}
            yield Draft(record.where, record.fields, record.text("id"), labels[label], kind, texts)


LAYOUTS: dict[str, tuple[DataSet, Layout]] = {
    "pku-saferlhf": (PKU_SAFERLHF, pku_saferlhf),
    "mlc-authors": (MLC_AUTHORS, mlc_authors),
    "multijail": (MULTIJAIL, multijail),
    "polyrefuse": (POLYREFUSE, polyrefuse),
    "xstest": (XSTEST, xstest),
}
