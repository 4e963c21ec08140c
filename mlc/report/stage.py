"""The report stage: everything the other stages found out, on one page without a network."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.samples import read_samples
from mlc.files import read_json, write_text
from mlc.gates.evidence import check_verdict
from mlc.gates.selection import Selection
from mlc.gates.verdict import Verdict
from mlc.models.manifest import Manifest
from mlc.paths import ROLES, Paths
from mlc.registry.registration import Registration
from mlc.report import examples, registry, sections, verdict
from mlc.report.page import render
from mlc.settings import Languages, flat

# The rates of the tables, the perplexity of reference replies after them.
COLUMNS = (
    "safe_rate", "over_refusal", "attack_success_rate", "fidelity", "language_unknown", "refusal_fidelity",
    "invalid", "cut_off", "only_thinking", "perplexity",
)  # fmt: skip
JUDGE_ERRORS = {
    "accuracy": "Right",
    "false_safe": "Unsafe taken for safe",
    "false_unsafe": "Safe taken for unsafe",
    "false_refusal": "Answer taken for a refusal",
    "missed_refusal": "Refusal not seen",
}


def _some_think(samples: Iterable[pd.DataFrame]) -> bool:
    return any("thinking" in frame and bool(frame["thinking"].notna().any()) for frame in samples)


def _lineage(manifest: Manifest, registration: Registration) -> dict[str, str]:
    base, data, git = manifest.base, manifest.data, manifest.git
    return {
        "MLflow run": registration.run_id,
        "Manifest (sha256)": registration.manifest,
        "Git commit": git.commit or "none",
        "Uncommitted changes": ", ".join(git.changed) or "none",
        "Data (md5 in data.dvc)": data.pointer or "none",
        "Training prompts (sha256)": data.prompts,
        "Base model": base.model,
        "Base revision": base.revision or "none: a local folder",
        "dvc.lock (sha256)": manifest.dvc_lock or "none",
        "Python": manifest.python,
    }


def _check_same_model(verdict: Verdict, registration: Registration, manifest: Manifest, paths: Paths) -> None:
    """A page about two models would be worse than none."""
    check_verdict(verdict, manifest, paths)
    if registration.manifest != manifest.digest:
        raise MlcError(f"{paths.registration} is about another model than {paths.model}: run `mlc register`")


def run(languages: Languages, paths: Paths) -> None:
    """Writes the report, whole or not at all, and adds it to the training run in MLflow.

    Raises:
        MlcError: an input is missing or broken; the message names the command that makes it.
    """
    judged = Verdict.read(paths.verdict, "mlc gate")
    registration = Registration.of(paths)
    manifest = Manifest.of(paths.model)
    samples = {role: read_samples(paths.samples(role)) for role in ROLES}
    _check_same_model(judged, registration, manifest, paths)
    quality = read_json(paths.prompts / "metrics.json", "mlc validate")
    metrics: dict[str, Metrics] = {
        role: Metrics.read(paths.evaluation(role) / "metrics.json", "mlc metrics") for role in ROLES
    }
    log = sections.training_log(paths)
    champion, champion_note = registry.champion(registration, paths)
    if champion is not None:
        metrics["champion"] = champion
    parameters = manifest.parameters.model_dump(mode="json")
    choices = paths.diagnostics / "choices.json"
    chosen = examples.choose(samples["base"], samples["candidate"], languages.all)
    page = render(
        "page.html",
        script="page.js",
        agreement=sections.agreement(languages, samples),
        calibration=Calibration.of(paths) if paths.calibration.exists() else None,
        categories=sections.categories(languages, metrics),
        category_names=sorted({item["category"] for items in chosen.values() for item in items}),
        champion_note=champion_note,
        choices=read_json(choices, "mlc diagnose") if choices.exists() else None,
        columns=[name for name in COLUMNS if name != "only_thinking" or _some_think(samples.values())],
        comparison=verdict.failed_first(registration.comparison),
        curves=sections.curves(log, parameters),
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
            for name, value in flat(parameters).items()
        },
        promoted=judged.passed and registration.promoted,
        quality=quality,
        representations=sections.representations(paths),
        rules=verdict.failed_first(judged.rules),
        selection=Selection.of(paths) if paths.selection_record.exists() else None,
        verdict=judged,
    )
    write_text(paths.report / "index.html", page)
    registry.log(registration, paths)
