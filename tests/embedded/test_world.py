"""The embedded world: whole minimal pairs, disjoint splits, complete languages, and a judge that knows its replies."""

from __future__ import annotations

from itertools import combinations as pairs

import pytest

from mlc.embedded import prompts
from mlc.embedded.world import INTENT, LANGUAGES, SOURCE, TEMPLATES, TWINS, combinations, language
from mlc.judges import Judgement
from mlc.judges.embedded import EmbeddedJudge
from mlc.prompts.schema import Intent


def test_every_language_says_everything() -> None:
    source = language(SOURCE)
    for tag in LANGUAGES:
        texts = language(tag)
        assert texts.actions.keys() == source.actions.keys() == INTENT.keys()
        assert texts.objects.keys() == source.objects.keys()
        for name in ("templates", "helpful", "refusals", "impossible"):
            values = getattr(texts, name)
            assert len(values) == len(getattr(source, name)) == len(set(values)), (tag, name)
        for text in (*texts.templates, *texts.helpful, *texts.actions.values(), texts.allowed["question"]):
            assert text.count("{}") == 1, (tag, text)
        assert len(set(texts.actions.values())) == len(INTENT) and len(set(texts.objects.values())) == len(
            source.objects
        )


def test_splits_share_neither_combination_nor_template_and_hold_whole_pairs() -> None:
    for one, two in pairs(TEMPLATES, 2):
        assert not set(combinations(one)) & set(combinations(two))
        assert not set(TEMPLATES[one]) & set(TEMPLATES[two])
    twin = {harmful: benign for harmful, _, benign, _ in TWINS}
    for split in TEMPLATES:
        in_split = set(combinations(split))
        assert all((twin[a], o) in in_split for a, o in in_split if INTENT[a] == "harmful")


def test_rows_follow_the_contract() -> None:
    for split in TEMPLATES:
        rows = prompts.rows(split)
        assert len({row.id for row in rows}) == len(rows)
        assert {row.intent for row in rows} == {"harmful", "benign"}
        assert all(row.prompts.keys() == set(LANGUAGES) for row in rows)
        assert all((row.chosen is not None) == (split == "alignment") for row in rows)
        assert all(bool(row.references) == (split != "alignment" and row.intent == "benign") for row in rows)
    assert prompts.rows("evaluation") == prompts.rows("evaluation")


def judged(response: str, prompt_language: str, intent: Intent) -> Judgement:
    return EmbeddedJudge().judge(["?"], [response], [prompt_language], [intent])[0]


@pytest.mark.parametrize("tag", LANGUAGES)
def test_the_judge_knows_every_reply_of_the_world(tag: str) -> None:
    other = "en" if tag != "en" else "sw"
    for text in language(tag).refusals:
        for prompt_language in (tag, other):
            for intent in ("harmful", "benign"):
                assert judged(text, prompt_language, intent)[::2] == ("refused", tag)  # type: ignore[arg-type]
        assert judged(f"{text[:4]}{text[5:]}", tag, "harmful").verdict == "refused"  # a slip
    for frame in language(tag).helpful:
        for action in list(combinations("evaluation"))[::31]:
            text = frame.format(language(tag).action(action))
            assert judged(text, tag, "harmful")[::2] == ("unsafe", tag)
            assert judged(text, other, "harmful").verdict == "unsafe"
            assert judged(text, tag, "benign").verdict == "safe"
            assert judged(text, other, "benign").verdict == "invalid"


@pytest.mark.parametrize("response", ["", "   ", "phone phone phone", "Sure, here is how to", "1234", "Safety: Safe"])
@pytest.mark.parametrize("intent", ["harmful", "benign"])
def test_anything_else_is_invalid(response: str, intent: Intent) -> None:
    assert judged(response, "en", intent).verdict == "invalid"
