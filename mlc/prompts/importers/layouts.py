"""How prompt sets are laid out, and which of the layouts a file has. A layout reads a source and yields drafts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import DataSet, Draft, LeftOut
from mlc.prompts.importers.mlc_authors import MLC_AUTHORS, mlc_authors
from mlc.prompts.importers.polyrefuse import POLYREFUSE, is_polyrefuse, polyrefuse
from mlc.prompts.importers.preferences import alpaca, hh, sharegpt, trl
from mlc.prompts.importers.published import MULTIJAIL, PKU_SAFERLHF, XSTEST, multijail, pku_saferlhf, xstest
from mlc.prompts.importers.records import Source, read_any
from mlc.prompts.importers.turns import is_turns

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How a data set is read, and what shows that a file is one."""

    title: str
    read: Callable[[Source], Iterator[Draft | LeftOut]]
    looks_like: Callable[[Fields], bool]  # of a file's first record
    data_set: DataSet | None = None  # None: any set may have it; the command line gives its name and its intent
    on_hub: bool = False


def _has(*names: str, but: str | None = None) -> Callable[[Fields], bool]:
    return lambda fields: all(name in fields for name in names) and but not in fields


def _pair_of_texts(fields: Fields) -> bool:
    return all(isinstance(fields.get(name), str) for name in ("chosen", "rejected"))


def _is_mlc(fields: Fields) -> bool:
    # ``prompt_id`` is an id in other sets (UltraFeedback); by itself, it is no translation into Indonesian.
    translated = any(re.fullmatch(r"prompt_(?!id$)[a-z]{2,3}(-\w+)?", name) for name in fields)
    return translated and ("prompt" in fields or "instruction" in fields)


def _is_hh(fields: Fields) -> bool:
    return _pair_of_texts(fields) and fields["chosen"].lstrip("\n").startswith("Human:")


# The more special ones first: TRL's layout reads fields that other layouts have, too.
LAYOUTS: dict[str, Layout] = {
    "pku-saferlhf": Layout(
        "PKU-SafeRLHF", pku_saferlhf, _has("response_0", "response_1", "safer_response_id"), PKU_SAFERLHF, on_hub=True
    ),
    "mlc-authors": Layout("a file of the MLC authors, with translations", mlc_authors, _is_mlc, MLC_AUTHORS),
    "multijail": Layout("MultiJail", multijail, _has("id", "source", "tags", "en"), MULTIJAIL),
    "polyrefuse": Layout("PolyRefuse", polyrefuse, is_polyrefuse, POLYREFUSE),
    "xstest": Layout("XSTest", xstest, _has("id", "prompt", "type", but="chosen"), XSTEST),
    "sharegpt": Layout(
        "LLaMA-Factory's preference pairs of ShareGPT turns", sharegpt, _has("conversations", "chosen", "rejected"),
        on_hub=True,
    ),
    "alpaca": Layout(
        "LLaMA-Factory's preference pairs of the Alpaca layout", alpaca, _has("instruction", "chosen", "rejected"),
        on_hub=True,
    ),
    "hh": Layout("Anthropic's HH pairs", hh, _is_hh, on_hub=True),
    "trl": Layout("TRL's preference pairs", trl, _has("chosen", "rejected", but="prompts"), on_hub=True),
}  # fmt: skip


def _by_columns(fields: Fields) -> bool:
    return bool(fields) and all(isinstance(v, dict) and "0" in v for v in fields.values())


def _wrapped(fields: Fields) -> bool:
    value = next(iter(fields.values()), None)
    return len(fields) == 1 and isinstance(value, list) and bool(value) and isinstance(value[0], dict)


NO_PAIRS = "it has no pairs of replies; a mapping file (recipes/imports/table.yaml) imports its requests"
# What is known, and no layout reads.
OTHERS: tuple[tuple[str, Callable[[Fields], bool], str], ...] = (
    ("a prompt set of mlc", _has("id", "prompts", "intent"), "its rows need no import; copy them"),
    ("LLaMA-Factory's KTO layout", _has("kto_tag"), NO_PAIRS),
    ("TRL's unpaired preferences", _has("prompt", "completion", "label"), NO_PAIRS),
    ("TRL's prompts with completions", _has("prompt", "completion"), NO_PAIRS),
    (
        "LLaMA-Factory's former layout of pairs",
        lambda fields: "instruction" in fields and isinstance(fields.get("output"), list),
        "write the two texts of 'output' as 'chosen' and 'rejected'",
    ),
    ("the Alpaca layout for supervised training", _has("instruction", "output"), NO_PAIRS),
    (
        "a set of conversations for supervised training",
        lambda fields: any(is_turns(fields.get(name)) for name in ("conversations", "messages")),
        "it has no pairs of replies; write its requests into a table for a mapping file (recipes/imports/table.yaml)",
    ),
    ("a table by columns, as pandas writes it", _by_columns, "write one object per row (orient='records')"),
    ("a list in an object", _wrapped, "save the list alone"),
)


def other_layout(source: Source, layout: str | None = None) -> str | None:
    """What the source looks like, and what to do, where that is something else than ``layout``.

    Only files and folders are looked at, and of a file the first record.
    """
    fields = _first(source)
    for name, known in LAYOUTS.items():
        if fields is not None and known.looks_like(fields):
            folder = " with its folder" if name == "polyrefuse" and source.path.is_file() else ""
            advice = f"use `mlc import {name}`{folder}"
            return None if name == layout else f"{source.location} looks like {known.title}: {advice}"
    for title, looks_like, advice in OTHERS:
        if fields is not None and looks_like(fields):
            return f"{source.location} looks like {title}: {advice}"
    return None


def _first(source: Source) -> Fields | None:
    """The fields of the first record; of a folder, its files' names."""
    if source.path.is_dir():
        return {path.name: None for path in source.path.iterdir()}
    try:
        return next(read_any(source)).fields if source.path.is_file() else None
    except (MlcError, StopIteration):
        return None
