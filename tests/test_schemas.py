"""The schemas that are published are those of the code, and the files that the code writes have them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import records

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("name", GENERATOR.SCHEMAS)
def test_the_published_schema_is_generated(name: str) -> None:
    published = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert published == GENERATOR.schema(name), "run python docs/schemas/generate.py"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def test_every_schema_that_is_there_is_generated_and_documented() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(GENERATOR.SCHEMAS)
    page = FOLDER.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"schemas/{name}.json" in page for name in GENERATOR.SCHEMAS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest", records.manifest()),
        ("verdict", records.verdict(rules=[records.result("safe_rate", "sw", True)])),
        ("registration", records.registration()),
        ("metrics", records.metrics({"sw": {"safe_rate": records.estimate(0.9)}})),
    ],
)
def test_a_file_has_its_schema_and_a_misspelt_field_has_not(name: str, content: dict[str, Any]) -> None:
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "pased": True}, schema)
