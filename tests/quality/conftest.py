from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlc.embedded.world import CATEGORY, INTENT, TEMPLATES, Split, combinations, language
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, Provenance, write_prompts
from mlc.settings import Languages, Validate

TAGS = ("en", "sw", "zh", "bn")
Sets = dict[str, list[PromptRow]]


def world_rows(split: Split, count: int, tags: tuple[str, ...] = TAGS) -> list[PromptRow]:
    templates = TEMPLATES[split]
    return [
        PromptRow(
            id=f"{split[0]}{number}",
            source="embedded",
            category=CATEGORY[c.action],
            intent=INTENT[c.action],
            prompts={tag: language(tag).request(c, templates[number % len(templates)]) for tag in tags},
            references={tag: language(tag).helpful[0].format(language(tag).action(c)) for tag in tags},
            provenance={tag: Provenance(translator="human") for tag in tags},
        )
        for number, c in enumerate(combinations(split)[:count])
    ]


def with_text(row: PromptRow, tag: str, text: str) -> PromptRow:
    return row.model_copy(update={"prompts": {**row.prompts, tag: text}})


def without(row: PromptRow, tag: str) -> PromptRow:
    return row.model_copy(update={"prompts": {t: text for t, text in row.prompts.items() if t != tag}})


@pytest.fixture
def languages() -> Languages:
    return Languages(source="en", served=("en", "sw", "zh"), transfer=("bn",))


@pytest.fixture
def validate() -> Validate:
    return Validate(
        maximum_characters=20_000,
        minimum_script_share=0.5,
        minimum_language_margin=0.0,
        length_ratio_deviations=6.0,
        maximum_leakage=0.35,
        maximum_repetition=0.5,
        minimum_back_translation=20.0,
        minimum_retrieval=0.8,
        minimum_language_share=0.8,
        false_alarms=0.005,
        encoder=None,
        encoder_revision=None,
        error_spans=None,
        per_language={},
        maximum_quarantined=0.05,
        minimum_coverage=0.9,
        minimum_languages=2,
    )


@pytest.fixture
def sets() -> Sets:
    return {"alignment": world_rows("alignment", 60), "evaluation": world_rows("evaluation", 40)}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Sets], Paths]:
    """Writes prompt sets into a project folder of their own."""

    def write(sets: Sets) -> Paths:
        paths = Paths(tmp_path)
        paths.params.touch()
        for name, rows in sets.items():
            write_prompts(paths.data / f"{name}.jsonl", rows)
        return paths

    return write
