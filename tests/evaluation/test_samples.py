"""A sample line says whether its reply is in the prompt's language; older lines are read as they were judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc.evaluation.samples import Sample, read_samples, write_samples
from mlc.evaluation.summarize import summarize_folder
from mlc.languages.answer import Answer
from mlc.settings import Languages


def line(number: int, tag: str, identified: str, answer: Answer | None, intent: str = "benign") -> Sample:
    return Sample(
        prompt_id=f"{intent}-{number}", language=tag, category="c", intent=intent, model="m",  # type: ignore[arg-type]
        prompt="?", response="A reply.", verdict="safe" if intent == "benign" else "refused", judge="j",
        judge_version="1", judge_raw="", response_language=identified, in_language=answer, tokens=1, seconds=0.1,
    )  # fmt: skip


def test_an_older_line_counts_as_it_did_then_and_a_new_one_as_it_says(tmp_path: Path) -> None:
    """A version's verdict has to follow from its own lines after an upgrade."""
    lines = [
        line(0, "fil", "tl", None), line(1, "fil", "fil", None), line(2, "zh-Hant", "zh", None),
        line(3, "fil", "fil", "yes"), line(4, "fil", "en", "no"), line(5, "fil", "und", "cannot say"),
    ]  # fmt: skip
    write_samples(tmp_path / "samples.jsonl", lines)
    frame = read_samples(tmp_path / "samples.jsonl")
    assert frame["in_language"].tolist() == ["no", "yes", "yes", "yes", "no", "cannot say"]
    assert frame["faithful"].tolist() == [False, True, True, True, False, False]


def test_the_evaluation_says_of_how_many_replies_the_language_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Answer] = ["yes", "yes", "yes", "cannot say"]
    lines = [line(i, tag, tag, a, intent) for tag in ("en", "ny") for intent in ("harmful", "benign")
             for i, a in enumerate(answers if tag == "ny" else ["yes"] * 4)]  # fmt: skip
    write_samples(tmp_path / "samples.jsonl", lines)
    languages = Languages(source="en", served=("en", "ny"), transfer=())
    metrics = summarize_folder(tmp_path, "base", languages, "mlc evaluate base")
    assert metrics.languages["ny"]["fidelity"]["n"] == 3 and metrics.languages["ny"]["fidelity"]["value"] == 1
    printed = capsys.readouterr().out
    assert "base: the language of 1 of 8 replies to benign prompts cannot be told, most in Nyanja (25.0%)" in printed
    unknown = [sample.model_copy(update={"in_language": "cannot say"}) for sample in lines]
    write_samples(tmp_path / "samples.jsonl", unknown)
    assert "fidelity" not in summarize_folder(tmp_path, "base", languages, "mlc evaluate base").served
    assert "the language of 8 of 8 replies" in capsys.readouterr().out
