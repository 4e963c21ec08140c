"""The champion judged again: on the prompts of now, by the judges and rules of now, from its files in the registry.

Prompts, rules and judges change after a model was promoted. An audit says whether the champion would still pass. It
moves no alias, unless ``audit.on_failure`` is ``rollback`` and the previous champion passes where this one fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mlc import tracking
from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.evaluation.stage import evaluate_model
from mlc.files import read_json, replacing, sha256, sha256_folder, sha256_json, write_json
from mlc.gates import leakage
from mlc.gates.rules import sentence
from mlc.gates.stage import calibration_errors, check_prompts, judge, judge_lines
from mlc.models import manifest
from mlc.paths import Paths, Subject
from mlc.prompts.schema import read_prompts
from mlc.registry.ledger import Model
from mlc.registry.promotion import rollback
from mlc.registry.verify import MODEL, base_of, verified
from mlc.settings import Settings

WHO = "mlc audit"  # in the ledger


def run(settings: Settings, paths: Paths, force: bool = False) -> dict[str, Any]:
    """Judges the champion into ``artifacts/audit`` and returns the verdict, whose ``action`` says what was done.

    Where champion, prompts, judges, rules and code are those of the last audit, its verdict stands, unless ``force``.

    Raises:
        MlcError: there is no champion, it is not what was registered, its base or the prompts are missing, or the
            judge cannot be used.
    """
    model = Model(paths, settings.register_.model_name)
    champion = model.alias("champion")
    if champion is None:
        raise MlcError(f"{model.name} has no champion to audit: `mlc registry list` shows what there is")
    verdict = _judged(model, champion, settings, paths, paths.audit, force)
    action = None
    if not verdict["passed"] and settings.audit.on_failure == "rollback":
        action = _roll_back(model, verdict, settings, paths, force)
        print(f"audit: {action}")
    verdict |= {"action": action}
    write_json(paths.audit / "verdict.json", verdict)
    return verdict


def _roll_back(model: Model, verdict: Mapping[str, Any], settings: Settings, paths: Paths, force: bool) -> str:
    """Goes back to the previous champion if that one passes now. Returns what was done and why, in words."""
    champion, previous = verdict["version"], model.alias("previous")
    if previous in (None, champion):
        return f"not rolled back: {model.name} has no champion before version {champion}"
    other = _judged(model, previous, settings, paths, paths.audit / "previous", force)
    if not other["passed"]:
        return f"not rolled back: version {previous} does not pass either: {other['failed'][0]}"
    now = model.aliases()
    if (now.get("champion"), now.get("previous")) != (champion, previous):
        return "not rolled back: somebody moved the aliases during the audit"
    return "rolled back: " + rollback(paths, settings, WHO, f"audit: {verdict['failed'][0]}")


def _identity(version: str, manifest_tag: str | None, settings: Settings, paths: Paths) -> str:
    """Stands for all that decides a verdict."""
    code = Path(__file__).parent
    calibration = paths.calibration
    return sha256_json(
        {
            "version": [settings.register_.model_name, version, manifest_tag],
            "prompts": sha256(_prompts(settings, paths)),
            "evaluate": settings.evaluate.model_dump(mode="json"),
            "languages": settings.languages.model_dump(mode="json"),
            "gate": settings.gate.model_dump(mode="json"),
            "calibration": sha256(calibration) if settings.gate.judge and calibration.exists() else None,
            "code": {n: h for n, h in sha256_folder(code).items() if "__pycache__" not in n},
        }
    )


def _prompts(settings: Settings, paths: Paths) -> Path:
    path = paths.prompts / f"{settings.evaluate.prompts}.jsonl"
    if not path.exists():
        raise MlcError(f"{path} does not exist: run `mlc validate` first")
    return path


def _judged(model: Model, version: str, settings: Settings, paths: Paths, folder: Path, force: bool) -> dict[str, Any]:
    """The verdict on a version, made or found in ``folder``."""
    identity = _identity(version, model.version(version).tags.get("manifest"), settings, paths)
    done = folder / "verdict.json"
    if done.exists() and not force:
        last = read_json(done, "mlc audit")
        if last["identity"] == identity:
            print(f"audit: version {version} was judged on {last['when'][:10]}, and nothing has changed since")
            return last
    base = _fetch(model, version, paths, folder)
    metrics = _evaluate(version, settings, paths, folder, base)
    samples = read_samples(folder / "evaluation" / "samples.jsonl")
    if set(samples["model"]) != {manifest.weights_id(folder / "model")}:
        raise MlcError(
            "evaluate.generator.candidate_model is one model of the endpoint, and not the registered one: set it to "
            "null, and let the endpoint serve the version under the id of its weights"
        )
    verdict = _verdict(
        model, version, samples, _base_samples(samples, settings, paths, folder, base), settings, paths, folder
    )
    verdict |= {"identity": identity, "manifest": manifest.digest(manifest.read(folder / "model")), "action": None}
    _record(model, verdict, metrics, paths)
    write_json(done, verdict)  # last: what is here is in MLflow too
    passed, failed = verdict["passed"], verdict["failed"]
    outcome = f"all {len(verdict['rules'])} rules passed" if passed else f"{len(failed)} rules failed"
    print("\n  ".join([f"audit: version {version} of {model.name}: {outcome}", *failed, *verdict["notes"]]))
    return verdict


def _fetch(model: Model, version: str, paths: Paths, folder: Path) -> Path:
    """Puts the version's weights into ``folder``, verified, and returns where its base lies."""
    with verified(model, version) as files:
        with replacing(folder / "model") as aside:
            shutil.copytree(files / MODEL, aside)
        made = manifest.verify(folder / "model")
        own = folder / "base"
        with base_of(files, made, paths.base, own) as base:
            if base in (paths.base, own):
                return base
            with replacing(own) as aside:
                shutil.copytree(base, aside)
    if sha256_folder(own) != made["base"]["files"]:
        raise MlcError(f"{own} is not the base that version {version} was made from: remove it, and retry")
    return own


def _evaluate(version: str, settings: Settings, paths: Paths, folder: Path, base: Path) -> dict[str, Any]:
    name = f"version {version}"
    subject = Subject(name, "candidate", folder / "model", base, paths.partial(f"audit-{version}"))
    target = folder / "evaluation"
    return evaluate_model(subject, _prompts(settings, paths), settings.languages, settings.evaluate, target)


def _base_samples(champion: pd.DataFrame, settings: Settings, paths: Paths, folder: Path, base: Path) -> pd.DataFrame:
    """The base's samples on the same prompts, of the same judge and generator: those that are there, or new ones."""
    prompts = _prompts(settings, paths)
    there = paths.evaluation("base") / "samples.jsonl"
    if there.exists():
        samples = read_samples(there)
        same = all(set(samples[by]) == set(champion[by]) for by in ("judge", "judge_version", "generator"))
        if same and set(samples["model"]) == {manifest.weights_id(base)}:
            try:
                check_prompts(samples, there.parent, prompts, settings.languages.served, "`mlc evaluate base`")
                return samples
            except MlcError:
                pass  # other prompts: made anew
    subject = Subject("base", "base", base, base, paths.partial("audit-base"))
    evaluate_model(subject, prompts, settings.languages, settings.evaluate, folder / "evaluation-base")
    return read_samples(folder / "evaluation-base" / "samples.jsonl")


def _verdict(
    model: Model,
    version: str,
    champion: pd.DataFrame,
    base: pd.DataFrame,
    settings: Settings,
    paths: Paths,
    folder: Path,
) -> dict[str, Any]:
    gate, served = settings.gate, settings.languages.served
    rules, notes = judge(base, champion, settings.languages, gate, calibration_errors(gate, paths))
    alignment = paths.prompts / "alignment.jsonl"
    rules.append(leakage.check(champion, read_prompts(alignment, made_by="mlc validate"), gate.near_duplicate))
    if gate.judge is not None:
        rules += judge_lines(champion, served, gate.judge, paths)
    if manifest.read(folder / "model")["data"]["prompts"] != sha256(alignment):
        notes = [
            *notes,
            f"leaks are looked for in {alignment} as it is now, not in what version {version} learned from",
        ]
    failed = [sentence(rule) for rule in rules if not rule["passed"]]
    return {
        "passed": not failed,
        "model": model.name,
        "version": version,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "gate": gate.model_dump(mode="json"),
        "rules": rules,
        "failed": failed,
        "notes": notes,
    }


def _record(model: Model, verdict: Mapping[str, Any], metrics: Mapping[str, Any], paths: Paths) -> None:
    """A run of its own in MLflow, and tags on the version."""
    version, outcome = verdict["version"], "passed" if verdict["passed"] else "failed"
    tags = {"audit": outcome, "audit.model": model.name, "audit.version": version}
    with tracking.run(paths, f"audit-{version}", tags=tags) as run_id:
        served = {
            f"evaluation/served/{rate}/{which}": found[which]["value"]
            for rate, found in metrics["served"].items()
            for which in ("mean", "worst")
            if which in found
        }
        tracking.log_metrics(paths, run_id, served)
        model.client.log_dict(run_id, dict(verdict), "audit/verdict.json")
    for key, value in {"audited": verdict["when"], "audit": outcome, "audit.run": run_id}.items():
        model.client.set_model_version_tag(model.name, version, key, value)
