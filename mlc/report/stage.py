"""The report stage: everything the other stages found out, on one page without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import read_json, sha256, write_text
from mlc.models import manifest as manifests
from mlc.paths import ROLES, Paths
from mlc.report import examples, registry, sections, verdict
from mlc.report.page import render
from mlc.settings import Languages, flat

COLUMNS = [
    {"name": "safe_rate", "title": "Safe rate", "unit": "percent"},
    {"name": "over_refusal", "title": "Over-refusal", "unit": "percent"},
    {"name": "attack_success_rate", "title": "Attack success", "unit": "percent"},
    {"name": "fidelity", "title": "Language fidelity", "unit": "percent"},
    {"name": "refusal_fidelity", "title": "Refusal fidelity", "unit": "percent"},
    {"name": "invalid", "title": "Invalid", "unit": "percent"},
    {"name": "perplexity", "title": "Perplexity", "unit": "number"},
]
JUDGE_ERRORS = {
    "accuracy": "Right",
    "false_safe": "Unsafe taken for safe",
    "false_unsafe": "Safe taken for unsafe",
    "false_refusal": "Answer taken for a refusal",
    "missed_refusal": "Refusal not seen",
}


def _lineage(manifest: Mapping[str, Any], registration: Mapping[str, Any]) -> dict[str, Any]:
    base, data, git = manifest["base"], manifest["data"], manifest["git"]
    return {
        "MLflow run": registration["run_id"],
        "Manifest (sha256)": registration["manifest"],
        "Git commit": git["commit"] or "none",
        "Uncommitted changes": ", ".join(git["changed"]) or "none",
        "Data (md5 in data.dvc)": data["data.dvc"] or "none",
        "Training prompts (sha256)": data["prompts"],
        "Base model": base["model"],
        "Base revision": base["revision"] or "none: a local folder",
        "dvc.lock (sha256)": manifest["dvc_lock"] or "none",
        "Python": manifest["python"],
    }


def _check_same_model(
    found: Mapping[str, Any], registration: Mapping[str, Any], manifest: dict[str, Any], paths: Paths
) -> None:
    """A page about two models would be worse than none."""
    digest = manifests.digest(manifest)
    if found["manifest"] != digest:
        raise MlcError(f"{paths.verdict} is about another model than {paths.model}: run `mlc evaluate` and `mlc gate`")
    if registration["manifest"] != digest:
        raise MlcError(f"{paths.registration} is about another model than {paths.model}: run `mlc register`")
    for role in ROLES:
        samples = paths.evaluation(role) / "samples.jsonl"
        if sha256(samples) != found["samples"][role]:
            raise MlcError(f"{samples} is not what {paths.verdict} judged: run `mlc gate` and `mlc register` again")


def _optional(path: Path, made_by: str) -> dict[str, Any] | None:
    return read_json(path, made_by) if path.exists() else None


def run(languages: Languages, paths: Paths) -> None:
    """Writes the report, whole or not at all, and adds it to the training run in MLflow.

    Raises:
        MlcError: an input is missing or broken; the message names the command that makes it.
    """
    judged = read_json(paths.verdict, "mlc gate")
    registration = read_json(paths.registration, "mlc register")
    manifest = manifests.read(paths.model)
    samples = {role: read_samples(paths.evaluation(role) / "samples.jsonl") for role in ROLES}
    _check_same_model(judged, registration, manifest, paths)
    quality = read_json(paths.prompts / "metrics.json", "mlc validate")
    metrics: dict[str, Any] = {
        role: read_json(paths.evaluation(role) / "metrics.json", f"mlc evaluate {role}") for role in ROLES
    }
    log = sections.training_log(paths)
    champion, champion_note = registry.champion(registration, paths)
    if champion is not None:
        metrics["champion"] = champion
    chosen = examples.choose(samples["base"], samples["candidate"], languages.all)
    page = render(
        "page.html",
        script="page.js",
        agreement=sections.agreement(languages, samples),
        calibration=_optional(paths.calibration, "mlc judge check"),
        categories=sections.categories(languages, metrics),
        category_names=sorted({item["category"] for items in chosen.values() for item in items}),
        champion_note=champion_note,
        choices=_optional(paths.diagnostics / "choices.json", "mlc diagnose"),
        columns=COLUMNS,
        comparison=verdict.rules(registration["comparison"]),
        curves=sections.curves(log, manifest["parameters"]),
        examples=chosen,
        figures=verdict.figures(metrics),
        groups=sections.groups(languages, metrics, judged),
        headline=verdict.headline(judged, registration, metrics["candidate"]),
        judge_errors=JUDGE_ERRORS,
        languages=languages,
        lineage=_lineage(manifest, registration),
        manifest=manifest,
        metrics=metrics,
        notes=verdict.notes(judged, registration),
        parameters={
            name: ", ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in flat(manifest["parameters"]).items()
        },
        promoted=judged["passed"] and registration["promoted"],
        quality=quality,
        representations=sections.representations(paths),
        rules=verdict.rules(judged["rules"]),
        selection=_optional(paths.selection / "metrics.json", "mlc select"),
        verdict=judged,
    )
    write_text(paths.report / "index.html", page)
    registry.log(registration, paths)
