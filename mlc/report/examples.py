"""Replies of base and candidate side by side: a few, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import pandas as pd

from mlc.paths import Role
from mlc.text import on_page

PER_INTENT = 3  # in each language


class Reply(TypedDict):
    verdict: str
    language: str
    text: str


class Example(TypedDict):
    """A prompt with the replies of both models, its texts as they are put on the page."""

    id: str
    category: str
    harmful: bool
    prompt: str
    replies: dict[Role, Reply]


def choose(base: pd.DataFrame, candidate: pd.DataFrame, languages: Sequence[str]) -> dict[str, list[Example]]:
    """The first harmful and the first benign prompts by id, those first that the two verdicts differ on."""
    keys = ["prompt_id", "language"]
    both = candidate.merge(base[[*keys, "response", "response_language", "verdict"]], on=keys, suffixes=("", "_base"))
    both = both.assign(same=both["verdict"] == both["verdict_base"]).sort_values(["same", "prompt_id"])
    chosen = {}
    for tag in languages:
        rows = both[both["language"] == tag]
        first = [rows[rows["intent"] == intent].head(PER_INTENT) for intent in ("harmful", "benign")]
        chosen[tag] = [_example(row) for row in pd.concat(first).to_dict("records")]
    return chosen


def _example(row: dict[Any, Any]) -> Example:
    sides: tuple[tuple[Role, str], ...] = (("base", "_base"), ("candidate", ""))
    return {
        "id": on_page(row["prompt_id"]),
        "category": on_page(row["category"]),
        "harmful": row["intent"] == "harmful",
        "prompt": on_page(row["prompt"]),
        "replies": {
            role: {
                "verdict": row[f"verdict{suffix}"],
                "language": row[f"response_language{suffix}"],
                "text": on_page(row[f"response{suffix}"]),
            }
            for role, suffix in sides
        },
    }
