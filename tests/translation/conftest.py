"""What the tests of translation share: small prompt sets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
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


def cached(folder: Path) -> int:
    """How many translations the cache of the commands run in ``folder`` holds."""
    path = folder / ".cache/translations/translations.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            return int(connection.execute("select count(*) from translations").fetchone()[0])
        except sqlite3.OperationalError:  # the table is not there yet
            return 0
