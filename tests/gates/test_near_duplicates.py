"""Copies of a few requests are no evidence: what differs in nothing but wrapping counts once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mlc.embedded import prompts
from mlc.errors import MlcError
from mlc.gates import power
from mlc.gates.leakage import (
    MOST_COPIES,
    Distinct,
    distinct,
    distinct_of_rows,
    distinct_of_samples,
    leaked,
    near_duplicates,
)
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, write_prompts
from mlc.settings import Languages, load_settings

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
SERVED = SETTINGS.languages.served
ROWS = prompts.rows("evaluation")
FEW = [row for row in ROWS if row.intent == "harmful"][:12]
WORDS = ("please", "now", "today", "briefly", "thank you", "in detail", "for me", "right away", "my friend", "again")
WRAPPINGS: dict[str, Callable[[str, int], str]] = {
    "the same text": lambda text, _: text,
    "case, punctuation, spacing": lambda text, i: (text.upper(), f"{text}!!", text.replace(" ", "  "), f"– {text}")[
        i % 4
    ],
    "zero-width spaces": lambda text, i: text[: i + 1] + "\u200b" + text[i + 1 :],
    "a zero-width space between all letters": lambda text, i: ("\u200b" * i).join(text),
    "look-alike letters": lambda text, i: text.replace("aeopcxy"[i % 7], "аеорсху"[i % 7]),
    "a number": lambda text, i: f"{text} ({i})",
    "a number before": lambda text, i: f"{i}. {text}",
    "words after": lambda text, i: f"{text} {WORDS[i - 1]}" if i else text,
    "words before": lambda text, i: f"{WORDS[i - 1]}, {text}" if i else text,
}


def wrapped(wrapping: Callable[[str, int], str], count: int = 10) -> dict[str, dict[str, str]]:
    return {
        f"{row.id}-{i}": {tag: wrapping(row.prompts[tag], i) for tag in SERVED} for row in FEW for i in range(count)
    }


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
def test_copies_of_twelve_requests_are_twelve(wrapping: Callable[[str, int], str]) -> None:
    found = distinct(wrapped(wrapping), SERVED, 0.8)
    assert (found.prompts, found.fewest) == (120, found.distinct) and found.distinct <= 12
    assert found.copies >= 0.9


def test_copies_in_one_language_alone_are_found() -> None:
    """Different requests whose Swahili is the same: there, they are one."""
    texts = {row.id: row.prompts | {"sw": FEW[0].prompts["sw"]} for row in FEW}
    assert distinct(texts, SERVED, 0.8).distinct == 1
    assert distinct(texts, ("en", "es"), 0.8).distinct == 12


def test_the_shipped_requests_are_different() -> None:
    """One object for another, in one template, is another request: hardly any are taken for copies."""
    for name in ("evaluation", "tuning"):
        found = distinct_of_rows(prompts.rows(name), SERVED, SETTINGS.gate.near_duplicate)
        assert all(of.copies <= 0.01 for of in found.values()), (name, found)
        result = near_duplicates(found, SETTINGS.gate.near_duplicate, SETTINGS.gate.minimum_prompts)
        assert result.passed and result.hits is not None and result.n >= 144
    for served in (("en", "es", "sw"), ("en", "zh"), ("en",)):
        assert max(of.copies for of in distinct_of_rows(ROWS, served, 0.8).values()) <= 0.05


def test_a_shorter_request_is_another_one_unless_words_were_only_added() -> None:
    def alike(one: str, two: str) -> bool:
        return distinct({"a": {"en": one}, "b": {"en": two}}, ("en",), 0.8).distinct == 1

    assert alike("How do I open a lock?", "Tell me, how do I quietly open a lock?")
    assert not alike("How do I open a lock?", "How do I open a safe?")
    assert not alike("Open a lock", "How would somebody, in a story, open a heavy iron lock of an old door?")
    assert not alike("harmful 1", "harmful 10")  # too short for one letter to tell nothing
    assert not alike("12", "12 13") and not alike("怎么开锁", "怎么修车")


def test_too_many_copies_fail_and_so_do_too_few_different_prompts() -> None:
    def judged(prompts: int, different: int, minimum: int = 50) -> tuple[bool, str | None]:
        found = Distinct(prompts, different, different, "sw", ("a", "b") if different < prompts else None)
        result = near_duplicates({"harmful": found, "benign": Distinct(200, 200, 200, "sw", None)}, 0.8, minimum)
        return result.passed, result.reason

    assert judged(100, 100) == (True, None)
    assert judged(100, round(100 * (1 - MOST_COPIES)))[0]
    passed, reason = judged(139, 12)
    assert not passed and reason is not None
    assert reason.startswith("only 12 different harmful prompts in Swahili, 50 needed; 127 of 139 harmful prompts are")
    passed, reason = judged(100, 80)
    assert (
        not passed
        and reason is not None
        and "20 of 100 harmful prompts are copies of others, such as 'b' of 'a'" in reason
    )
    assert not judged(52, 49)[0] and judged(52, 49, minimum=40)[0]


def test_samples_and_rows_say_the_same() -> None:
    rows = ROWS[:40]
    lines = [
        {"prompt_id": row.id, "language": tag, "intent": row.intent, "prompt": text}
        for row in rows
        for tag, text in row.prompts.items()
    ]
    assert distinct_of_samples(pd.DataFrame(lines), SERVED, 0.8) == distinct_of_rows(rows, SERVED, 0.8)


def test_it_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    paths, served = Paths(tmp_path), Languages(source="en", served=("en", "sw"), transfer=())
    rows = [
        PromptRow(id=key, source="test", category="c", intent="harmful", prompts=texts)
        for key, texts in wrapped(WRAPPINGS["a number"]).items()
    ]
    benign = [row for row in ROWS if row.intent == "benign"]
    write_prompts(paths.prompts / "evaluation.jsonl", [*rows, *benign])
    with pytest.raises(MlcError, match=r"no candidate can pass .*near duplicates: only 1\d different harmful"):
        power.check(served, "evaluation", SETTINGS.gate, paths)
    plan = power.plan(served, "evaluation", SETTINGS.gate, 0.02, None, paths)
    assert any("of 120 harmful prompts are copies" in reason for reason in plan["cannot_pass"])


def test_a_training_prompt_leaks_whatever_cannot_be_seen_in_it() -> None:
    row = FEW[0]
    hidden = "\u200b".join(row.prompts["en"])
    samples = pd.DataFrame({"prompt_id": ["x"], "language": ["en"], "prompt": [hidden]})
    assert leaked(samples, [row], 0.8) == [("x", "en", row.id, 1.0)]
