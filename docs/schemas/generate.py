"""Writes the JSON Schemas of the files that other programs may read: ``python docs/schemas/generate.py``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from mlc.evaluation.calibration import Calibration
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.samples import Sample
from mlc.gates.verdict import AuditVerdict, Verdict
from mlc.models.manifest import Manifest
from mlc.prompts.schema import PromptRow
from mlc.registry.registration import Registration

SCHEMAS: dict[str, type[BaseModel]] = {
    "prompt-row": PromptRow,
    "sample-line": Sample,
    "metrics": Metrics,
    "calibration": Calibration,
    "verdict": Verdict,
    "audit-verdict": AuditVerdict,
    "manifest": Manifest,
    "registration": Registration,
}


def schema(name: str) -> str:
    """A schema as its file holds it, in JSON Schema 2020-12."""
    content = SCHEMAS[name].model_json_schema(by_alias=True)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**dialect, **content}, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    for each in SCHEMAS:
        (Path(__file__).parent / f"{each}.json").write_text(schema(each), encoding="utf-8")
