from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mlc.paths import Paths
from mlc.prompts.schema import write_prompts
from mlc.quality import measure
from mlc.quality.checks import add_quality, long_frame
from mlc.settings import Languages, Validate

from .conftest import Sets, world_rows


@pytest.fixture
def large() -> Sets:
    return {"alignment": world_rows("alignment", 240), "evaluation": world_rows("evaluation", 120)}


def surveyed(paths: Paths, sets: Sets) -> dict[str, measure.PromptSet]:
    return {name: measure.survey(paths.data / f"{name}.jsonl") for name in sets}


def test_chunks_cover_every_row_once_and_are_nearly_equal() -> None:
    for rows in (1, 999, 1000, 1499, 1501, 12_345):
        sizes = measure.chunk_sizes(rows)
        assert sum(sizes) == rows
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) < 1.5 * measure.CHUNK + 1


def test_measuring_a_file_is_measuring_its_rows(
    large: Sets, languages: Languages, validate: Validate, put: Callable[[Sets], Paths]
) -> None:
    frame = measure.compute_columns(surveyed(put(large), large), languages, validate).variants
    whole = add_quality(long_frame(large, languages.all, "en"), "en", list(large), 20_000, 0.005)
    assert frame["text"].isna().all()
    for column in set(frame.columns) - {"text", "source_text"}:
        left, right = frame[column].astype(object), whole[column].reset_index(drop=True).astype(object)
        pd.testing.assert_series_equal(left, right, check_names=False, obj=column)


@pytest.mark.slow
def test_processes_find_what_one_process_finds(
    large: Sets,
    languages: Languages,
    validate: Validate,
    put: Callable[[Sets], Paths],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "CHUNK", 120)
    sets = surveyed(put(large), large)
    keep = {("alignment", "a3", "sw")}
    alone = measure.compute_columns(sets, languages, validate, keep)
    monkeypatch.setattr(measure, "_IN_PROCESS", 1)
    together = measure.compute_columns(sets, languages, validate, keep)
    pd.testing.assert_frame_equal(alone.variants, together.variants)
    pd.testing.assert_frame_equal(alone.replies, together.replies)
    assert together.variants["text"].dropna().tolist() == [large["alignment"][3].prompts["sw"]]


def test_the_sample_is_drawn_from_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SAMPLE", 50)
    rows = world_rows("alignment", 400, ("en",))
    write_prompts(tmp_path / "set.jsonl", rows)
    prompts = measure.survey(tmp_path / "set.jsonl")
    assert prompts.rows == 400
    assert prompts.languages == {"en": 400}
    positions = sorted(rows.index(row) for row in prompts.sample)
    assert len(set(positions)) == 50
    assert positions[0] < 60 and positions[-1] > 340
