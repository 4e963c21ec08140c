"""What the layouts of preference pairs become."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import MlcError

from .examples import (
    BAD,
    GOOD,
    OTHER_REQUEST,
    REQUEST,
    alpaca,
    dialogue,
    explicit,
    hh,
    implicit,
    message,
    sharegpt,
    standard,
)
from .published import import_, turn, write_jsonl

PAIRS = {"sharegpt": [sharegpt()], "alpaca": [alpaca()], "trl": [standard(), explicit(), implicit()], "hh": [hh()]}
USER, ASSISTANT = message("user", REQUEST), message("assistant", GOOD)


@pytest.mark.parametrize(("layout", "record"), [(layout, r) for layout, records in PAIRS.items() for r in records])
@pytest.mark.parametrize("intent", ["harmful", "benign"])
def test_a_pair_is_a_row_of_the_intent_that_is_given(
    layout: str, record: dict[str, Any], intent: Any, tmp_path: Path
) -> None:
    (row,) = import_(layout, write_jsonl(tmp_path / "pairs.jsonl", [record]), intent=intent).rows
    assert row.prompts == {"en": REQUEST}
    assert (row.chosen, row.rejected, row.intent) == (GOOD, BAD, intent)


@pytest.mark.parametrize(
    ("layout", "record", "reason"),
    [
        ("sharegpt", sharegpt(conversations=[turn("human", "Hi"), turn("gpt", "Hi"), turn("human", "Hi")]), "several"),
        ("sharegpt", sharegpt(conversations=[turn("observation", REQUEST)]), "neither a user nor an assistant"),
        ("sharegpt", sharegpt(system="Answer as a pirate."), "a system prompt"),
        ("sharegpt", sharegpt(tools='[{"name": "search"}]'), "tools"),
        ("sharegpt", sharegpt(rejected=turn("gpt", " ")), "a response is empty"),
        ("sharegpt", sharegpt(rejected=turn("gpt", f"{GOOD} ")), "chosen and rejected are the same"),
        ("sharegpt", sharegpt(conversations=[turn("human", " ")]), "no prompt"),
        ("alpaca", alpaca(history=[["Hi", "Hello"]]), "a conversation of several turns"),
        ("alpaca", alpaca(system="Answer as a pirate."), "a system prompt"),
        ("trl", standard(chosen=""), "a response is empty"),
        ("trl", explicit(prompt=[message("system", "Answer as a pirate."), USER]), "a system prompt"),
        ("trl", explicit(prompt=[USER, ASSISTANT, USER]), "a conversation of several turns"),
        ("trl", implicit(rejected=[message("user", OTHER_REQUEST), ASSISTANT]), "do not answer the same request"),
        ("trl", implicit(rejected=[USER]), "a response is empty"),
        ("trl", implicit(rejected=[]), "do not answer the same request"),
        ("trl", implicit(prompt=OTHER_REQUEST), "a conversation of several turns"),
        ("hh", hh(chosen=dialogue(REQUEST, GOOD, "And a car?", GOOD)), "a conversation of several turns"),
        ("hh", hh(rejected=dialogue(OTHER_REQUEST, BAD)), "do not answer the same request"),
        ("hh", hh(rejected=dialogue(REQUEST, "")), "a response is empty"),
        ("hh", hh(rejected=None), "do not answer the same request"),
    ],
)  # fmt: skip
def test_what_a_row_cannot_hold_is_left_out_with_the_reason(
    layout: str, record: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    imported = import_(layout, write_jsonl(tmp_path / "pairs.jsonl", [record]), intent="harmful")
    assert not imported.rows
    assert [reason in left.reason for left in imported.left_out] == [True], imported.left_out


@pytest.mark.parametrize(
    ("layout", "record"),
    [
        ("sharegpt", sharegpt(chosen=[turn("gpt", GOOD)], system="", tools="")),
        ("alpaca", alpaca(history=[], system=None)),
        ("trl", explicit(prompt=[message("system", ""), USER])),
        ("trl", implicit(prompt=REQUEST, messages=[USER, ASSISTANT], score_chosen=0.9)),
        ("trl", explicit(chosen=GOOD, rejected=BAD)),
    ],
)
def test_what_is_empty_or_said_twice_does_not_matter(layout: str, record: dict[str, Any], tmp_path: Path) -> None:
    (row,) = import_(layout, write_jsonl(tmp_path / "pairs.jsonl", [record]), intent="harmful").rows
    assert (row.prompts, row.chosen, row.rejected) == ({"en": REQUEST}, GOOD, BAD)


def test_alpaca_requests_are_joined_as_llama_factory_joins_them(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", [alpaca(input="It is a cylinder lock.")])
    (row,) = import_("alpaca", path, intent="harmful").rows
    assert row.prompts == {"en": f"{REQUEST}\nIt is a cylinder lock."}


@pytest.mark.parametrize(
    ("layout", "record", "message"),
    [
        ("sharegpt", sharegpt(chosen={"from": "gpt"}), "field 'chosen': no field value; its fields are 'from'"),
        ("sharegpt", sharegpt(conversations=["Hello"]), "field 'conversations': a turn with 'from' and 'value'"),
        ("sharegpt", {"conversations": []}, "no field chosen, rejected; its fields are 'conversations'"),
        ("alpaca", alpaca(chosen=None) | {"instruction": 7}, "field 'instruction': a text is needed, not '7'"),
        ("trl", {"chosen": f"{REQUEST} {GOOD}", "rejected": f"{REQUEST} {BAD}"}, "no field prompt"),
        ("trl", explicit(prompt=[message("user", [{"type": "image"}])]), "field 'content': a text is needed"),
        ("hh", hh(chosen="Human, hello"), r"field 'chosen': a dialogue with '\n\nHuman:'"),
    ],
)
def test_what_is_malformed_is_named(layout: str, record: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", [record])
    with pytest.raises(MlcError) as error:
        import_(layout, path, intent="harmful")
    assert str(error.value).startswith(f"{path}, line 1") and message in str(error.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["csv", "parquet", "json", "jsonl"])
def test_a_file_is_read_by_its_content(form: str, packed: bool, tmp_path: Path) -> None:
    import pandas

    path, records = tmp_path / "pairs.data", [standard(), standard(prompt=OTHER_REQUEST)]
    if form == "csv":
        pandas.DataFrame(records).to_csv(path, index=False)
    elif form == "parquet":
        pandas.DataFrame(records).to_parquet(path)
    else:
        path.write_text(json.dumps(records) if form == "json" else "\n".join(map(json.dumps, records)))
    if packed and form == "parquet":
        return  # which is packed inside
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert [row.prompts["en"] for row in import_("trl", path, intent="harmful").rows] == [REQUEST, OTHER_REQUEST]
