"""What the tests of translation share: small prompt sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc.prompts.schema import PromptRow, Provenance, read_prompts, write_prompts


def row(number: int, prompts: dict[str, str], **more: Any) -> PromptRow:
    provenance = {tag: Provenance(translator="human") for tag in prompts}
    return PromptRow(
        id=f"r{number}", source="test", category="home", intent="benign", prompts=prompts, provenance=provenance, **more
    )


@pytest.fixture
def prompt_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a prompt set of English texts, or of whole ``prompts``, and returns its path."""

    def write(*texts: str | dict[str, str]) -> Path:
        path = tmp_path / "set.jsonl"
        write_prompts(path, [row(i, {"en": t} if isinstance(t, str) else t) for i, t in enumerate(texts)])
        return path

    return write


def texts(path: Path, language: str) -> dict[str, str]:
    return {row.id: row.prompts[language] for row in read_prompts(path) if language in row.prompts}


def failures(path: Path) -> list[dict[str, Any]]:
    beside = path.with_name(f"{path.stem}.failures.jsonl")
    return [json.loads(line) for line in beside.read_text().splitlines()] if beside.exists() else []
