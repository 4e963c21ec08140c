"""Candidates on the tuning prompts: nothing is asked twice, and a single candidate is not asked at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mlc.embedded import prompts
from mlc.errors import MlcError
from mlc.evaluation import sampling, tuning
from mlc.evaluation.generators import transformers
from mlc.evaluation.samples import sample_lines, write_samples
from mlc.models import loading
from mlc.models.weights import weights_id
from mlc.paths import Paths
from mlc.prompts.schema import write_prompts
from mlc.settings import Languages, load_settings

LANGUAGES = Languages(source="en", served=("en", "hi"), transfer=("bn",))
EVALUATE = load_settings(Path(__file__).parents[2] / "params.yaml").evaluate.model_copy(update={"max_new_tokens": 3})
ROWS = [row for intent in ("harmful", "benign") for row in prompts.rows("tuning") if row.intent == intent][140:148]
KEYS = [(row.id, tag) for row in ROWS for tag in LANGUAGES.served]


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path) -> Paths:
    """Two candidates, other than the base and each other."""
    paths = Paths(tmp_path)
    write_prompts(paths.prompts / "tuning.jsonl", ROWS)
    shutil.copytree(tiny_base, paths.base)
    for step in (2, 10):
        shutil.copytree(tiny_base, paths.candidate(step))
        weights = paths.candidate(step) / "model.safetensors"
        torch.manual_seed(step)
        changed = {name: w + torch.randn_like(w) / 100 for name, w in load_file(weights).items()}
        save_file(changed, weights, metadata={"format": "pt"})
    return paths


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the models that were loaded."""
    folders: list[str] = []

    def load(folder: Path, *rest: Any) -> Any:
        folders.append(folder.name)
        return loading.load_model(folder, *rest)

    monkeypatch.setattr(transformers, "load_model", load)
    return folders


@pytest.mark.slow
def test_what_the_base_was_asked_is_not_asked_again(paths: Paths, loaded: list[str]) -> None:
    tuning.run(LANGUAGES, EVALUATE, paths)
    whole = sample_lines(paths.tuning / "base.jsonl")
    known = [line.model_copy(update={"seconds": 0.0}) for line in whole if line.intent == "harmful"]
    assert len(whole) == len(KEYS) > len(known) > 0
    write_samples(paths.trusted_languages_samples, known)
    tuning.run(LANGUAGES, EVALUATE, paths)
    again = sample_lines(paths.tuning / "base.jsonl")
    assert [line.response for line in again] == [line.response for line in whole]
    assert [line.seconds == 0 for line in again] == [line.intent == "harmful" for line in again]
    write_samples(paths.trusted_languages_samples, [line.model_copy(update={"seconds": 0.0}) for line in whole])
    loaded.clear()
    tuning.run(LANGUAGES, EVALUATE, paths)
    assert loaded == ["step-2", "step-10"]
    write_samples(paths.trusted_languages_samples, [line.model_copy(update={"model": "another"}) for line in known])
    with pytest.raises(MlcError, match="is about another base or judge: run `mlc trusted-languages` again"):
        tuning.run(LANGUAGES, EVALUATE, paths)


def test_a_killed_run_goes_on_at_the_candidate_it_was_at(
    paths: Paths, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sampling.sample

    def killed(*arguments: Any) -> Any:
        if arguments[2].name == "step-10":
            raise KeyboardInterrupt
        return sample(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(sampling, "sample", killed)
        with pytest.raises(KeyboardInterrupt):
            tuning.run(LANGUAGES, EVALUATE, paths)
    assert not paths.tuning.exists() and loaded == ["base", "step-2"]
    loaded.clear()
    tuning.run(LANGUAGES, EVALUATE, paths)
    assert loaded == ["step-10"]
    for name, folder in {"base": paths.base, "step-2": paths.candidate(2), "step-10": paths.candidate(10)}.items():
        lines = sample_lines(paths.tuning / f"{name}.jsonl")
        assert [(line.prompt_id, line.language) for line in lines] == KEYS
        assert {line.model for line in lines} == {weights_id(folder)}
        assert not paths.partial(name).exists()


def test_a_single_candidate_costs_nothing(paths: Paths, loaded: list[str]) -> None:
    shutil.rmtree(paths.candidate(2))
    (paths.prompts / "tuning.jsonl").unlink()
    tuning.run(LANGUAGES, EVALUATE, paths)
    assert loaded == [] and [file.stat().st_size for file in paths.tuning.iterdir()] == [0]
