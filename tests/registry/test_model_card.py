"""The card of a version is one that the hub takes, and says what was measured."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from versions import Registry

from mlc.files import write_json
from mlc.registry import model_card


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Registry(tmp_path, store)


def test_a_card_has_its_metadata_and_its_figures(registry: Registry) -> None:
    terms = {"license": "other", "license_name": "gemma", "license_link": "https://example.org/terms"}
    own = ModelCard.load(registry.file(registry.add(refused=5), "README.md"))
    card = ModelCard.load(registry.file(registry.add(hub="1" * 40, licence=terms), "README.md"))
    data = card.data
    assert isinstance(data, ModelCardData)
    assert (data.language, data.base_model, data.pipeline_tag) == (["en", "es"], "org/base", "text-generation")
    assert (data.license, data.to_dict()["license_name"]) == ("other", "gemma")
    assert data.library_name == "transformers"
    # A local base is nothing that the hub knows, and no licence is better than a guessed one.
    assert own.data.to_dict().get("base_model") is None and own.data.to_dict().get("license") is None
    assert "Unknown: the base's files name none" in own.text and "other (gemma)" in card.text
    results = own.data.eval_results
    assert results is not None
    values = {(r.dataset_config, r.metric_type): (r.metric_value, r.metric_args) for r in results}
    assert values["es", "over_refusal"] == (0.2, {"n": 25, "low": 0.1, "high": 0.3})
    assert values["en", "safe_rate"][0] == 1.0 and len(values) == 4
    assert "| Spanish | 100.0% (90.0–100.0%) | 20.0%" in own.text
    assert "passed all 2 rules" in own.text and "`test 1`" in own.text


def test_a_card_names_the_settings_that_were_looser_than_their_floor(registry: Registry) -> None:
    folder = registry.file(registry.add(), "")
    path = folder / "evidence" / "verdict.json"
    content = json.loads(path.read_text())
    write_json(path, content | {"schema_version": 2, "unsafe_settings": ["minimum_prompts", "only_refusal_judge"]})
    model_card.write(folder, {}, 64)
    card = ModelCard.load(folder / "README.md")
    text = html.unescape(card.text)
    assert "Settings looser than their floor (gate.unsafe_settings): minimum_prompts, only_refusal_judge" in text


def test_the_licence_is_the_one_in_the_bases_card(tmp_path: Path) -> None:
    assert model_card.licence(tmp_path) == {}
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Base\n")
    assert model_card.licence(tmp_path) == {"license": "apache-2.0"}
    (tmp_path / "README.md").write_text("# A card without metadata\n")
    assert model_card.licence(tmp_path) == {}
