"""The card of a version is one that the hub takes, and says what was measured."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt
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


def test_a_card_lists_the_licences_of_all_that_made_and_judged_the_model(registry: Registry) -> None:
    folder = registry.file(registry.add(), "")
    assert "licences of its prompts, translators and judges were not written down" in (folder / "README.md").read_text()
    path = folder / "evidence" / "verdict.json"
    content = json.loads(path.read_text())
    licences = [
        {"kind": "rows", "name": "set|<b>", "licence": "MIT", "texts": {"alignment": 1200, "evaluation": 3}},
        {"kind": "base", "name": "org/base", "licence": "LicenseRef-gemma", "texts": {}},
        {"kind": "judge", "name": "a guard", "licence": None, "texts": {}},
        {"kind": "judge", "name": "another", "licence": None, "texts": {}},
    ]
    gate = content["gate"] | {"licence_of": {"another": "Apache-2.0"}}
    write_json(path, content | {"schema_version": 3, "licences": licences, "gate": gate})
    model_card.write(folder, {}, 64)
    page = MarkdownIt("commonmark").enable("table").render(ModelCard.load(folder / "README.md").text)
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", page)
    assert rows[:4] == [
        ("rows", "set|&lt;b&gt;", "MIT", "1,200 in alignment, 3 in evaluation"),
        ("base", "org/base", "LicenseRef-gemma", "–"),
        ("judge", "a guard", "unknown", "–"),
        ("judge", "another", "Apache-2.0", "–"),
    ]
