"""The model card of a version: a README.md as the Hugging Face hub reads it, from the manifest, metrics and verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from mlc.files import read_json, write_text
from mlc.languages.tags import language_name
from mlc.models import manifest
from mlc.registry.verify import EVIDENCE, MODEL
from mlc.text import interval, markdown, percent

NAME = "README.md"
RATES = {  # in the card's tables and metadata, where they were measured
    "safe_rate": "safe rate",
    "over_refusal": "over-refusal",
    "fidelity": "language fidelity",
    "invalid": "invalid",
}


def licence(base: Path) -> dict[str, Any]:
    """The licence that the base's own card names, with its name and address where it has its own; empty if unknown."""
    try:
        data = ModelCard.load(base / NAME).data.to_dict()
    except (FileNotFoundError, ValueError):
        return {}
    return {key: data[key] for key in ("license", "license_name", "license_link") if isinstance(data.get(key), str)}


def write(folder: Path, terms: dict[str, Any]) -> None:
    """Writes the card into a version's folder, which holds the model and its evidence; ``terms`` is the licence."""
    evidence = folder / EVIDENCE
    made = read_json(evidence / manifest.NAME, "mlc train")
    metrics = read_json(evidence / "metrics.json", "mlc evaluate candidate")["languages"]
    base_metrics = read_json(evidence / "base_metrics.json", "mlc evaluate base")["languages"]
    verdict = read_json(evidence / "verdict.json", "mlc gate")
    adapter = manifest.is_adapter(folder / MODEL)
    languages = made["parameters"]["languages"]
    name = f"{made['base']['model'].rstrip('/').rpartition('/')[2]}-mlc"
    data = ModelCardData(
        model_name=name,
        language=languages["served"],
        # A local folder is no model of the hub, and one that is pinned is.
        base_model=made["base"]["model"] if made["base"]["revision"] else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["multilingual", "safety", "alignment", "mlc"],
        eval_results=_results(metrics),
        **terms,
    )
    environment = Environment(loader=PackageLoader("mlc", "registry"), undefined=StrictUndefined)
    environment.filters |= {"md": markdown, "language": language_name}
    text = environment.get_template("model_card.md.jinja").render(
        metadata=data.to_yaml(),
        name=name,
        made=made,
        served=", ".join(map(language_name, languages["served"])),
        transfer=", ".join(map(language_name, languages["transfer"])),
        adapter=adapter,
        digest=manifest.digest(made),
        judges=_judges(evidence / "samples.jsonl"),
        rates=list(RATES.values()),
        tables={"This model": _rows(metrics), "Its base": _rows(base_metrics)},
        confidence=verdict["gate"]["confidence"],
        rules=len(verdict["rules"]),
        notes=verdict["notes"],
        terms=terms,
    )
    write_text(folder / NAME, text)


def _rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row per language: its name, and each rate with its interval."""
    rows = []
    for tag, rates in metrics.items():
        cells = [f"{percent(rates[r]['value'])} ({interval(rates[r])})" if r in rates else "–" for r in RATES]
        rows.append([language_name(tag), *cells])
    return rows


def _results(metrics: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="mlc-evaluation",
            dataset_name="the project's evaluation prompts",
            dataset_config=tag,
            metric_type=rate,
            metric_name=f"{words}, {language_name(tag)}",
            metric_value=round(rates[rate]["value"], 4),
            metric_args={name: round(rates[rate][name], 4) for name in ("n", "low", "high")},
        )
        for tag, rates in metrics.items()
        for rate, words in RATES.items()
        if rate in rates
    ]


def _judges(samples: Path) -> str:
    with samples.open(encoding="utf-8") as file:
        first = json.loads(next(file))
    return f"{first['judge']} {first['judge_version']}"
