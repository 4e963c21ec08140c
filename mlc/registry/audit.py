"""The champion judged again: on the prompts of now, by the judges and rules of now, from its files in the registry.

Prompts, rules and judges change after a model was promoted. An audit says whether the champion would still pass. It
moves no alias, unless ``audit.on_failure`` is ``rollback`` and the previous champion passes where this one fails.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from mlc import tracking
from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.samples import read_samples
from mlc.evaluation.sampling import sample_prompt_set
from mlc.evaluation.summarize import summarize_folder
from mlc.files import replacing, sha256, sha256_folder, sha256_json
from mlc.gates import leakage
from mlc.gates.apply_rules import apply_rules, calibration_errors, judge_results
from mlc.gates.evidence import check_prompts
from mlc.gates.licences import licence_results
from mlc.gates.rules import RuleResult
from mlc.gates.verdict import AuditVerdict, Verdict, outcome
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import weights_id
from mlc.paths import ModelUnderTest, Paths
from mlc.prompts.schema import read_prompts
from mlc.provenance.code import package_hash
from mlc.registry.model import RegisteredModel
from mlc.registry.promotion import rollback
from mlc.registry.verify import EVIDENCE, VersionFiles, base_of, fetched, verified
from mlc.settings import Settings
from mlc.text import RATE_NAMES

WHO = "mlc audit"  # in the ledger


def run(settings: Settings, paths: Paths, force: bool = False) -> AuditVerdict:
    """Judges the champion into ``artifacts/audit`` and returns the verdict, whose ``action`` says what was done.

    Where champion, prompts, judges, rules and code are those of the last audit, its verdict stands, unless ``force``.

    Raises:
        IntegrityError: the alias is on a rejected version.
        MlcError: there is no champion, it is not what was registered, its base or the prompts are missing, or the
            judge cannot be used.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    champion = model.alias("champion")
    if champion is None:
        raise MlcError(f"{model.name} has no champion to audit: `mlc registry list` shows what there is")
    model.version("champion")  # not where somebody put a rejected version
    verdict = _judged(model, champion, settings, paths, paths.audit, force)
    action = None
    if not verdict.passed and settings.audit.on_failure == "rollback":
        action = _roll_back(model, verdict, settings, paths, force)
        print(f"audit: {action}")
    verdict = verdict.model_copy(update={"action": action})
    verdict.write(paths.audit / "verdict.json")
    return verdict


def _roll_back(model: RegisteredModel, verdict: AuditVerdict, settings: Settings, paths: Paths, force: bool) -> str:
    """Goes back to the previous champion if that one passes now. Returns what was done and why, in words."""
    champion, previous = verdict.version, model.alias("previous")
    if previous in (None, champion):
        return f"not rolled back: {model.name} has no champion before version {champion}"
    other = _judged(model, previous, settings, paths, paths.audit / "previous", force)
    if not other.passed:
        return f"not rolled back: version {previous} does not pass either: {other.failed[0]}"
    now = model.aliases()
    if (now.get("champion"), now.get("previous")) != (champion, previous):
        return "not rolled back: somebody moved the aliases during the audit"
    return "rolled back: " + rollback(paths, settings, WHO, f"audit: {verdict.failed[0]}")


def _identity(version: str, manifest_tag: str | None, settings: Settings, paths: Paths) -> str:
    """Stands for all that decides a verdict."""
    calibration = paths.calibration
    return sha256_json(
        {
            "version": [settings.register_.model_name, version, manifest_tag],
            "prompts": sha256(_prompts(settings, paths)),
            "evaluate": settings.evaluate.model_dump(mode="json"),
            "languages": settings.languages.model_dump(mode="json"),
            "gate": settings.gate.model_dump(mode="json"),
            "calibration": sha256(calibration) if settings.gate.judge and calibration.exists() else None,
            "code": package_hash(),
        }
    )


def _prompts(settings: Settings, paths: Paths) -> Path:
    path = paths.prompts / f"{settings.evaluate.prompts}.jsonl"
    if not path.exists():
        raise MlcError(f"{path} does not exist: run `mlc validate` first")
    return path


def _judged(
    model: RegisteredModel, version: str, settings: Settings, paths: Paths, folder: Path, force: bool
) -> AuditVerdict:
    """The verdict on a version, made or found in ``folder``."""
    identity = _identity(version, model.version(version).tags.get("manifest"), settings, paths)
    done = folder / "verdict.json"
    if done.exists() and not force:
        last = AuditVerdict.read(done, "mlc audit")
        if last.identity == identity:
            print(f"audit: version {version} was judged on {last.when[:10]}, and nothing has changed since")
            return last
    base = _fetch(model, version, paths, folder)
    metrics = _evaluate(version, settings, paths, folder, base)
    samples = read_samples(folder / "evaluation" / "samples.jsonl")
    if set(samples["model"]) != {weights_id(folder / "model")}:
        raise MlcError(
            "evaluate.generator.candidate_model is one model of the endpoint, and not the registered one: set it to "
            "null, and let the endpoint serve the version under the id of its weights"
        )
    base_samples = _base_samples(samples, settings, paths, folder, base)
    manifest = Manifest.of(folder / "model")
    results, notes = _apply_rules(version, manifest, samples, base_samples, settings, paths)
    if settings.gate.licences is not None:
        with fetched(model, version, f"{EVIDENCE}/verdict.json") as file:  # what it was made and judged with then
            results += licence_results(Verdict.read(file, "mlc register").licences, settings.gate)
    failed = [result.sentence for result in results if not result.passed]
    verdict = AuditVerdict(
        schema_version=AuditVerdict.VERSION,
        passed=not failed,
        model=model.name,
        version=version,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        gate=settings.gate.model_dump(mode="json"),
        rules=results,
        failed=failed,
        notes=notes,
        identity=identity,
        manifest=manifest.digest,
        action=None,
    )
    _record(model, verdict, metrics, paths)
    verdict.write(done)  # last: what is here is in MLflow too
    print("\n  ".join([f"audit: version {version} of {model.name}: {outcome(results, failed)}", *failed, *notes]))
    return verdict


def _fetch(model: RegisteredModel, version: str, paths: Paths, folder: Path) -> Path:
    """Puts the version's weights into ``folder``, verified, and returns where its base lies."""
    with verified(model, version) as registered:
        with replacing(folder / "model") as aside:
            shutil.copytree(VersionFiles(registered).weights, aside)
        manifest = manifests.verify(folder / "model")
        own = folder / "base"
        with base_of(registered, manifest, paths.base, own) as base:
            if base in (paths.base, own):
                return base
            with replacing(own) as aside:
                shutil.copytree(base, aside)
    if sha256_folder(own) != manifest.base.files:
        raise MlcError(f"{own} is not the base that version {version} was made from: remove it, and retry")
    return own


def _evaluate(version: str, settings: Settings, paths: Paths, folder: Path, base: Path) -> Metrics:
    name, target = f"version {version}", folder / "evaluation"
    model = ModelUnderTest(name, "candidate", folder / "model", base, paths.partial(f"audit-{version}"))
    prompts = _prompts(settings, paths)
    sample_prompt_set(model, prompts, settings.languages, settings.evaluate, target / "samples.jsonl")
    return summarize_folder(target, name, settings.languages, "mlc audit")


def _base_samples(champion: pd.DataFrame, settings: Settings, paths: Paths, folder: Path, base: Path) -> pd.DataFrame:
    """The base's samples on the same prompts, of the same judge and generator: those that are there, or new ones."""
    prompts, existing = _prompts(settings, paths), paths.samples("base")
    if existing.exists():
        samples = read_samples(existing)
        same = all(set(samples[by]) == set(champion[by]) for by in ("judge", "judge_version", "generator"))
        if same and set(samples["model"]) == {weights_id(base)}:
            try:
                check_prompts(samples, existing.parent, prompts, settings.languages.served, "`mlc evaluate base`")
                return samples
            except MlcError:
                pass  # other prompts: made anew
    model = ModelUnderTest("base", "base", base, base, paths.partial("audit-base"))
    target = folder / "evaluation-base" / "samples.jsonl"
    sample_prompt_set(model, prompts, settings.languages, settings.evaluate, target)
    return read_samples(target)


def _apply_rules(
    version: str,
    manifest: Manifest,
    champion: pd.DataFrame,
    base: pd.DataFrame,
    settings: Settings,
    paths: Paths,
) -> tuple[list[RuleResult], list[str]]:
    """The results of the gate's rules on the champion, and notes on what was not judged."""
    gate, served = settings.gate, settings.languages.served
    results, notes = apply_rules(base, champion, settings.languages, gate, calibration_errors(gate, paths))
    alignment = paths.prompts / "alignment.jsonl"
    results.append(leakage.check(champion, read_prompts(alignment, made_by="mlc validate"), gate.near_duplicate))
    distinct = leakage.distinct_of_samples(champion, served, gate.near_duplicate)
    results.append(leakage.near_duplicates(distinct, gate.near_duplicate, gate.minimum_prompts))
    if gate.judge is not None:
        results += judge_results(champion, served, gate.judge, Calibration.of(paths))
    if manifest.data.prompts != sha256(alignment):
        notes = [
            *notes,
            f"leaks are looked for in {alignment} as it is now, not in what version {version} learned from",
        ]
    return results, notes


def _record(model: RegisteredModel, verdict: AuditVerdict, metrics: Metrics, paths: Paths) -> None:
    """A run of its own in MLflow, and tags on the version."""
    version, passed = verdict.version, "passed" if verdict.passed else "failed"
    model.version(version)  # somebody may have deleted it during the audit
    tags = {"audit": passed, "audit.model": model.name, "audit.version": version}
    with tracking.run(paths, f"audit-{version}", tags=tags) as run_id:
        served: dict[str, float] = {}
        for rate in RATE_NAMES:
            if rate not in metrics.served:  # whether replies were cut off is not always known
                continue
            of_rate = metrics.served[rate]
            served[f"evaluation/served/{rate}/mean"] = of_rate["mean"]["value"]
            served[f"evaluation/served/{rate}/worst"] = of_rate["worst"]["value"]
        tracking.log_metrics(paths, run_id, served)
        model.client.log_dict(run_id, verdict.content(), "audit/verdict.json")
    for key, value in {"audited": verdict.when, "audit": passed, "audit.run": run_id}.items():
        model.client.set_model_version_tag(model.name, version, key, value)
