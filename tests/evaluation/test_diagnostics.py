"""Diagnostics of representations: what is known of made-up states, and a run on two tiny models."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlc.embedded import prompts
from mlc.evaluation import diagnostics
from mlc.paths import ROLES, Paths
from mlc.prompts.schema import write_prompts
from mlc.settings import Languages, load_settings

EVALUATE = load_settings(Path(__file__).parents[2] / "params.yaml").evaluate
LANGUAGES = Languages(source="en", served=("en", "zh", "sw"), transfer=())
RNG = np.random.default_rng(0)


def test_languages_that_agree_have_one_singular_value() -> None:
    same = np.repeat(RNG.standard_normal((20, 1, 64)), 4, axis=1)
    assert diagnostics.spectrum(same) == pytest.approx([1, 0, 0, 0])
    assert diagnostics.cross_language_cosine(same) == pytest.approx(1.0)
    orthogonal = np.repeat(np.eye(4)[None], 20, axis=0)
    assert diagnostics.spectrum(orthogonal) == pytest.approx([0.25] * 4)
    assert diagnostics.cross_language_cosine(orthogonal) == pytest.approx(0.0)


def test_collapse_shows_between_different_prompts() -> None:
    apart = np.repeat(np.eye(30)[:, None, :], 3, axis=1)
    assert diagnostics.different_prompt_cosine(apart) == pytest.approx(0.0)
    collapsed = np.ones((30, 3, 30)) + 1e-6 * RNG.standard_normal((30, 3, 30))
    assert diagnostics.different_prompt_cosine(collapsed) == pytest.approx(1.0)
    assert diagnostics.cross_language_cosine(apart) == pytest.approx(1.0)  # consistency alone cannot tell them apart


def test_separation_is_measured_on_other_prompts() -> None:
    harmful = np.arange(80) % 2 == 0
    noise = RNG.standard_normal((80, 2, 500))  # more dimensions than prompts: anything separates what it was found on
    nothing = diagnostics.separation(noise, harmful, 0)
    assert 0.3 < nothing["mean"] < 0.7
    apart = noise.copy()
    apart[harmful, :, 0] += 30
    assert diagnostics.separation(apart, harmful, 0)["worst"] == 1.0
    turned = noise.copy()
    turned[harmful, 0, 0] += 30
    turned[harmful, 1, 1] += 30
    separation = diagnostics.separation(turned, harmful, 0)
    assert separation["worst"] == 1.0 and separation["by_source_worst"] < 0.7


def test_both_models_are_measured_at_both_layers(tmp_path: Path, tiny_base: Path) -> None:
    paths = Paths(tmp_path)
    for role in ROLES:
        shutil.copytree(tiny_base, paths.weights(role))
    write_prompts(paths.prompts / "evaluation.jsonl", prompts.rows("evaluation")[:16])
    diagnostics.run(LANGUAGES, EVALUATE, 1, paths)
    metrics = json.loads((paths.diagnostics / "representations.json").read_text())
    assert metrics["base"] == metrics["candidate"] and set(metrics["base"]) == {"layer_1", "layer_-1"}
    one = metrics["base"]["layer_1"]
    assert sum(one["singular_spectrum"].values()) == pytest.approx(1.0) and len(one["singular_spectrum"]) == 3
    with (paths.diagnostics / "map.csv").open(encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    chosen = json.loads((paths.diagnostics / "choices.json").read_text())
    assert chosen["base"] == chosen["candidate"] and set(chosen["base"]["languages"]) == set(LANGUAGES.served)
    assert len(points) == 2 * 16 * 3 and {point["language"] for point in points} == set(LANGUAGES.served)


@pytest.mark.parametrize(
    ("served", "prompts_in", "problem"),
    [
        (("en", "zh"), ("en",), "0 harmful, or benign, evaluation prompts are there in every served language"),
        (("en",), ("en",), "one served language has nothing to be compared with"),
    ],
)
def test_what_cannot_be_compared_stops_nothing(
    tmp_path: Path, served: tuple[str, ...], prompts_in: tuple[str, ...], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path)
    rows = [
        row.model_copy(update={"prompts": dict.fromkeys(prompts_in, "a")}) for row in prompts.rows("evaluation")[:16]
    ]
    write_prompts(paths.prompts / "evaluation.jsonl", rows)
    monkeypatch.setattr(diagnostics, "load_model", lambda *_: (None, None))
    monkeypatch.setattr(diagnostics, "accuracy", lambda *_: {"served": {"value": 0.5}})
    diagnostics.run(Languages(source="en", served=served, transfer=()), EVALUATE, 1, paths)
    assert problem in json.loads((paths.diagnostics / "representations.json").read_text())["skipped"]
    assert (paths.diagnostics / "map.csv").read_text() == "role,id,intent,language,x,y\n"


def test_a_broken_model_stops_nothing(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(tmp_path)
    shutil.copytree(tiny_base, paths.base)
    write_prompts(paths.prompts / "evaluation.jsonl", prompts.rows("evaluation")[:16])
    monkeypatch.setattr(diagnostics, "load_model", lambda *_: (None, None))
    monkeypatch.setattr(diagnostics, "accuracy", lambda *_: {"served": {"value": 0.5}})
    monkeypatch.setattr(diagnostics, "represent", lambda rows, tags, *_: np.full((len(rows), len(tags), 4), np.nan))
    diagnostics.run(LANGUAGES, EVALUATE, 1, paths)
    assert "not finite" in json.loads((paths.diagnostics / "representations.json").read_text())["skipped"]
