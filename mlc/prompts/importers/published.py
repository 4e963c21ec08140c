"""Published sets of one file each: PKU-SafeRLHF, MultiJail, XSTest."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.records import Record, Source, read_any, read_csv
from mlc.prompts.schema import Intent, Provenance
from mlc.text import quoted

HUMAN = Provenance(translator="human")

SAFETY_LABELS = ("is_response_0_safe", "is_response_1_safe", "safer_response_id")
PKU_SAFERLHF = DataSet("PKU-SafeRLHF", "CC-BY-NC-4.0", {}, split="train")
MULTIJAIL = DataSet("MultiJail", "MIT", {"*": HUMAN})
XSTEST = DataSet("XSTest", "CC-BY-4.0", {"*": HUMAN})


def pku_saferlhf(source: Source) -> Iterator[Draft | LeftOut]:
    """PKU-SafeRLHF (arXiv 2406.15513): two responses to a prompt, each labelled safe or unsafe.

    A pair is taken where exactly one response is safe: it is chosen, the other rejected. Both unsafe: the safer one is
    still unsafe, and training would teach it. Both safe: nothing says that the request is harmful. The order by
    ``better_response_id`` is of helpfulness and not looked at.
    """
    for record in read_any(source):
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
            places = {source.language: record.place("prompt")} | {
                name: f"{record.place('response_0')} or _1, {name}" for name in ("chosen", "rejected")
            }
            yield Draft(
                record.where, record.fields, None, "harmful", category, {source.language: prompt}, chosen, rejected,
                places=places, language_told=True,
            )  # fmt: skip


def _flag(record: Record, name: str) -> bool:
    value = record.fields[name]
    if not isinstance(value, bool):
        raise MlcError(f"{record.where}, field {name}: true or false is needed, not {quoted(str(value))}")
    return value


def multijail(source: Source) -> Iterator[Draft | LeftOut]:
    """MultiJail's CSV (arXiv 2310.06474): id, source, tags, and one column per language."""
    for record in read_csv(source.path):
        record.need("id", "source", "tags", "en")
        names = [name for name in record.fields if name not in ("id", "source", "tags")]
        texts = {name: text for name in names if (text := record.text(name))}
        category = _listed(record.text("tags")) or UNSPECIFIED
        places = {name: record.place(name) for name in texts}
        yield Draft(record.where, record.fields, record.text("id"), "harmful", category, texts, places=places)


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
            texts, places = {source.language: prompt} if prompt else {}, {source.language: record.place("prompt")}
            yield Draft(
                record.where, record.fields, record.text("id"), labels[label], kind, texts,
                places=places, language_told=True,
            )  # fmt: skip
