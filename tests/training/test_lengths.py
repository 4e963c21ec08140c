"""What is trained on is counted before, equals what TRL trains on, and is refused where too much of it is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from mlc.errors import MlcError
from mlc.models.generation import chat_ids
from mlc.models.manifest import TrainedOn
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, write_prompts
from mlc.settings import Languages, Train, load_settings
from mlc.training import stage
from mlc.training.build import build_trainer, training_set
from mlc.training.lengths import fitting, sequence_tokens

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
LANGUAGES = Languages(source="en", served=("en", "hi"), transfer=())
PARADIGMS = ["dpo", "sft", "orpo", "simpo", "kto"]


def train(paradigm: str = "dpo", objective: dict[str, Any] | None = None, **update: Any) -> Train:
    small = {"layer": 1, "trusted_languages": ("en",)} | (objective or {})
    whole = SETTINGS.train
    given = {"max_steps": 2, "batch_size": 4, "objective": whole.objective.model_copy(update=small)}
    return whole.model_copy(update=given | {"paradigm": paradigm} | update)


def longer(row: PromptRow, tag: str = "en", times: int = 40) -> PromptRow:
    return row.model_copy(update={"prompts": row.prompts | {tag: " ".join([row.prompts[tag]] * times)}})


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path) -> Paths:
    paths = Paths(tmp_path)
    shutil.copytree(tiny_base, paths.base)
    return paths


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_what_is_counted_is_what_the_trainer_trains_on(
    paradigm: str, paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    rows = [*map(longer, alignment_rows[:2]), *alignment_rows[2:]]
    settings = train(paradigm, maximum_left_out=0.2)
    _, counted = fitting(rows, LANGUAGES, settings, AutoTokenizer.from_pretrained(paths.base))
    assert {intent: (one.used, one.left_out) for intent, one in counted.rows.items()} == {
        "benign": (7, 1),
        "harmful": (7, 1),
    }
    trainer, tokenizer = build_trainer(rows, LANGUAGES, settings, paths)
    examples = sum(one.used for one in counted.rows.values()) * (2 if paradigm == "kto" else 1)
    assert len(trainer.train_dataset) == examples
    assert set(trainer.train_dataset["id"]) == {row.id for row in rows[2:]}
    # To the token: the last length that fits is the longest row's of those that are left.
    longest = max(
        sequence_tokens(tokenizer, row.prompts["en"], str(reply), paradigm)
        for row in rows[2:]
        for reply in ([row.chosen] if paradigm == "sft" else [row.chosen, row.rejected])
    )
    assert longest == max(map(_tokens, trainer.train_dataset))


def _tokens(example: dict[str, Any]) -> int:
    """Of a row as TRL tokenised it."""
    if "chosen_input_ids" in example:  # orpo, simpo
        return max(len(example[f"{side}_input_ids"]) for side in ("chosen", "rejected"))
    if "input_ids" in example:  # sft
        return len(example["input_ids"])
    replies = [example[name] for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in example]
    return len(example["prompt_ids"]) + max(map(len, replies))


@pytest.mark.parametrize(
    ("paradigm", "parent", "config"),
    [("dpo", DPOTrainer, DPOConfig), ("sft", SFTTrainer, SFTConfig), ("kto", KTOTrainer, KTOConfig)],
)
def test_the_rows_that_a_parent_would_pass_over_are_among_those_left_out(
    paradigm: str, parent: Any, config: Any, paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    rows = [*map(longer, alignment_rows[:2]), *alignment_rows[2:]]
    settings = train(paradigm, maximum_left_out=0.2)
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    everything = training_set(rows, LANGUAGES, settings).remove_columns(["variants", "harmful"])
    arguments = config(
        output_dir=str(paths.root), max_length=settings.max_length, bf16=False, use_cpu=True, report_to="none"
    )
    alone = parent(str(paths.base), args=arguments, train_dataset=everything, processing_class=tokenizer)
    kept, _ = fitting(rows, LANGUAGES, settings, tokenizer)
    assert set(alone.train_dataset["id"]) == {row.id for row in kept}


def test_a_run_says_and_records_what_it_trained_on(
    paths: Paths, alignment_rows: list[PromptRow], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rows = [longer(alignment_rows[0]), longer(alignment_rows[1], "hi"), *alignment_rows[2:]]
    write_prompts(paths.prompts / "alignment.jsonl", rows)
    stage.run(LANGUAGES, SETTINGS.base, train("orpo", maximum_left_out=0.1), paths)
    out = capsys.readouterr().out
    assert "training: 8 of 8 benign, 7 of 8 harmful rows fit max_length 256; variants left out: 1 in hi" in out
    written = json.loads((paths.candidate(2) / "manifest.json").read_text())["trained_on"]
    counted = TrainedOn.model_validate_json(json.dumps(written))
    assert counted.rows["harmful"].left_out == 1 and counted.variants["hi"].left_out == 1
    assert counted.variants["hi"].total == 15  # of the rows that are trained on


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_too_many_long_rows_are_refused_with_what_to_do(
    paradigm: str, paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    rows = [longer(alignment_rows[0]), *alignment_rows[1:]]
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    with pytest.raises(MlcError) as error:
        fitting(rows, LANGUAGES, train(paradigm), tokenizer)
    assert "1 of 16 alignment rows are longer (0 of 8 benign, 1 of 8 harmful)" in str(error.value)
    assert "train.maximum_left_out = 0.02" in str(error.value)
    enough = int(str(error.value).split("set train.max_length to ")[1].split(",")[0])
    kept, counted = fitting(rows, LANGUAGES, train(paradigm, max_length=enough), tokenizer)
    assert len(kept) == 16 and counted.rows["harmful"].longest == enough
    with pytest.raises(MlcError):
        fitting(rows, LANGUAGES, train(paradigm, max_length=enough - 1), tokenizer)


def test_an_intent_that_would_be_gone_is_refused_whatever_may_be_left_out(
    paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    rows = [longer(row) if row.intent == "harmful" else row for row in alignment_rows]
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    with pytest.raises(MlcError, match="no harmful row would be trained on"):
        fitting(rows, LANGUAGES, train(maximum_left_out=1.0), tokenizer)


def test_variants_that_are_too_long_are_left_out_or_refused_by_language(
    paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    rows = [longer(alignment_rows[0], "hi"), *alignment_rows[1:]]
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    tokens = len(chat_ids(tokenizer, rows[0].prompts["hi"]))
    with pytest.raises(MlcError, match=rf"1 of 16 in hi, more than .* The longest has {tokens} tokens"):
        fitting(rows, LANGUAGES, train(), tokenizer)
    kept, counted = fitting(rows, LANGUAGES, train(maximum_left_out=0.1), tokenizer)
    assert "hi" not in kept[0].prompts and "hi" in kept[1].prompts and counted.variants["hi"].longest == tokens
    # The parent method alone reads no variants.
    _, alone = fitting(rows, LANGUAGES, train(objective={"weight": 0.0}), tokenizer)
    assert alone.variants == {}


def test_a_language_without_an_intent_is_named_before_training(paths: Paths, alignment_rows: list[PromptRow]) -> None:
    rows = [
        row.model_copy(update={"prompts": {t: p for t, p in row.prompts.items() if t != "hi"}})
        if row.intent == "harmful"
        else row
        for row in alignment_rows
    ]
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    with pytest.raises(MlcError, match="no harmful alignment row that can be trained on has a prompt in hi"):
        fitting(rows, LANGUAGES, train(), tokenizer)
