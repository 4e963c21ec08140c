"""Multiple choice from reference replies: fair options, right scoring, and nothing where there is nothing to ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mlc.embedded import prompts
from mlc.evaluation import multiple_choice
from mlc.evaluation.multiple_choice import Question, accuracy, questions


def test_every_question_has_its_own_reference_and_three_others() -> None:
    rows = prompts.rows("evaluation")
    items = questions(rows, ("en", "sw"))
    references = {(row.id, tag): text for row in rows for tag, text in row.references.items()}
    assert len(items) == 2 * multiple_choice.QUESTIONS and items == questions(rows, ("en", "sw"))
    for question in items:
        assert question.options[0] == references[question.row, question.language]
        assert len(set(question.options)) == multiple_choice.OPTIONS
        assert set(question.options) <= {text for (_, tag), text in references.items() if tag == question.language}


def test_without_references_nothing_is_asked(alignment_rows: list[Any]) -> None:
    assert questions(alignment_rows, ("en",)) == []
    few = [row for row in prompts.rows("evaluation") if row.references][:3]
    assert questions(few, ("en",)) == []  # three other replies are needed


def scored(monkeypatch: pytest.MonkeyPatch, nll: dict[str, float]) -> None:
    def reference_nll(
        _model: Any, _tokenizer: Any, _prompts: Sequence[str], replies: Sequence[str], _tokens: int
    ) -> Iterator[list[tuple[int, tuple[int, float]]]]:
        yield [(i, (len(reply), nll[reply] * len(reply))) for i, reply in reversed(list(enumerate(replies)))]

    monkeypatch.setattr(multiple_choice, "reference_nll", reference_nll)


def test_the_likeliest_reply_per_token_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, {"right and long": 1.0, "likely": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "nan": float("nan")})
    right = Question("one", "en", "p", ("right and long", "b", "c", "d"))
    wrong = Question("two", "en", "p", ("b", "right and long", "c", "d"))
    tied = Question("one", "sw", "p", ("right and long", "likely", "c", "d"))
    broken = Question("two", "sw", "p", ("nan", "b", "c", "d"))
    scores = accuracy([right, wrong, tied, broken], None, None, ("en", "sw"), 1)
    assert [scores["languages"][tag]["value"] for tag in ("en", "sw")] == [0.5, 0.0]
    assert scores["languages"]["en"]["n"] == 2 and scores["served"]["value"] == 0.25


def test_a_real_model_is_scored(tiny: tuple[Any, Any]) -> None:
    items = questions(prompts.rows("evaluation"), ("en", "zh"))[:12]
    scores = accuracy(items, *tiny, ("en", "zh"), 4096)
    assert scores["languages"]["en"]["n"] == 12 and 0 <= scores["served"]["value"] <= 1
