"""The model card of a version: a README.md as the Hugging Face hub reads it, from the manifest, metrics and verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from mlc.evaluation.metrics import LanguageMetrics
from mlc.files import write_text
from mlc.gates.licences import of_verdict
from mlc.gates.verdict import Licensed
from mlc.languages.tags import language_name
from mlc.licences import UNKNOWN
from mlc.models import manifest as manifests
from mlc.models.weights import is_adapter
from mlc.registry.verify import VersionFiles
from mlc.text import HEADLINE_RATES, MISSING, markdown, title, with_interval

NAME = "README.md"


def write(folder: Path, terms: Mapping[str, Any], max_new_tokens: int) -> None:
    """Writes the card into a version's folder, which holds the model and its evidence.

    ``terms`` are the base's, as its own card has them; ``max_new_tokens`` of the longest reply that was judged.
    """
    files = VersionFiles(folder)
    evidence = files.evidence
    # Nothing is registered yet: what is broken is to be made again by the stage that it comes from.
    manifest = evidence.manifest(manifests.MADE_BY)
    metrics, base_metrics = evidence.metrics("mlc metrics").languages, evidence.base_metrics("mlc metrics").languages
    verdict = evidence.verdict("mlc gate")
    adapter = is_adapter(files.weights)
    languages = manifest.parameters.languages
    name = f"{manifest.base.model.rstrip('/').rpartition('/')[2]}-mlc"
    data = ModelCardData(
        model_name=name,
        language=languages.served,
        # A local folder is no model of the hub, and one that is pinned is.
        base_model=manifest.base.model if manifest.base.revision else None,
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
        manifest=manifest,
        served=", ".join(map(language_name, languages.served)),
        transfer=", ".join(map(language_name, languages.transfer)),
        adapter=adapter,
        judges=_judges(evidence.samples),
        rates=list(map(title, HEADLINE_RATES)),
        tables={"This model": _rows(metrics), "Its base": _rows(base_metrics)},
        confidence=verdict.confidence,
        rules=len(verdict.rules),
        notes=verdict.remarks,
        terms=terms,
        licences=list(map(_licence, of_verdict(verdict))),
        max_new_tokens=max_new_tokens,
    )
    write_text(folder / NAME, text)


def _rows(metrics: Mapping[str, LanguageMetrics]) -> list[list[str]]:
    """A row per language: its name, and each rate with its interval."""
    rows = []
    for tag, rates in metrics.items():
        cells = [with_interval(rates[rate]) if rate in rates else MISSING for rate in HEADLINE_RATES]
        rows.append([language_name(tag), *cells])
    return rows


def _licence(item: Licensed) -> list[str]:
    """A row of the table: what it is, its name, its licence, and how many of its texts are in which set."""
    texts = ", ".join(f"{n:,} in {name}" for name, n in item.texts.items())
    return [item.kind, item.name, item.licence or UNKNOWN, texts or MISSING]


def _results(metrics: Mapping[str, LanguageMetrics]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="mlc-evaluation",
            dataset_name="the project's evaluation prompts",
            dataset_config=tag,
            metric_type=rate,
            metric_name=f"{title(rate)}, {language_name(tag)}",
            metric_value=round(rates[rate]["value"], 4),
            metric_args={
                "n": rates[rate]["n"],
                "low": round(rates[rate]["low"], 4),
                "high": round(rates[rate]["high"], 4),
            },
        )
        for tag, rates in metrics.items()
        for rate in HEADLINE_RATES
        if rate in rates
    ]


def _judges(samples: Path) -> str:
    with samples.open(encoding="utf-8") as file:
        first = json.loads(next(file))
    return f"{first['judge']} {first['judge_version']}"
