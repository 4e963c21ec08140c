"""The registry stage: only a passing, unchanged, traceable candidate becomes a version, and only a better one champion.

Writes are in an order in which an interruption leaves the old champion or the new one, never none; running again
completes the rest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mlflow.exceptions import MlflowException

from mlc import tracking
from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.summarize import metrics_of
from mlc.files import read_json, sha256, sha256_folder
from mlc.gates.apply_rules import verdict_on
from mlc.gates.evidence import check_verdict
from mlc.gates.rules import RuleResult
from mlc.gates.verdict import Verdict
from mlc.git import keep_commits
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.paths import ROLES, Paths
from mlc.provenance.chain import Provenance, check_records, check_tree
from mlc.registry import package, served
from mlc.registry.ledger import rejection_reason
from mlc.registry.model import RegisteredModel
from mlc.registry.promotion import check_rules, compare, turned_down
from mlc.registry.recheck import check_calibration, check_judgements, rounded
from mlc.registry.registration import Registration
from mlc.registry.verify import FILES, verified
from mlc.settings import Languages, Settings


def _check_verdict(verdict: Verdict, manifest: Manifest, languages: Languages, paths: Paths) -> None:
    """The verdict is about this model, these samples and these languages, and agrees with its own rules."""
    check_verdict(verdict, manifest, paths)
    try:
        check_rules(verdict, languages)
    except MlcError as error:
        raise MlcError(f"{paths.verdict}: {error}: run `mlc gate` again") from None


def _check_gate(verdict: Verdict, settings: Settings, paths: Paths) -> None:
    """The gate says the same of these samples now: a file can be edited."""
    evaluate = settings.evaluate
    judged = verdict_on(settings.languages, evaluate.prompts, settings.gate, evaluate.judges, paths)
    if rounded(judged) != rounded(verdict):
        raise MlcError(f"{paths.verdict} is not what the gate says of these samples: run `mlc gate` again")


def _check_metrics(languages: Languages, paths: Paths) -> None:
    """The metrics are those of these samples: they go into the version, and a command run by hand may be left out."""
    for role in ROLES:
        path, samples = paths.evaluation(role) / "metrics.json", paths.samples(role)
        metrics = Metrics.read(path, "mlc metrics")
        if rounded(metrics) != rounded(metrics_of(samples, languages, f"mlc evaluate {role}")):
            raise MlcError(f"{path} does not hold the metrics of {samples}: run `mlc metrics` again")


def _check_origin(manifest: Manifest, paths: Paths) -> None:
    """Every file is what training wrote, and all of it comes from a commit."""
    manifests.verify(paths.model)
    if package.needs_local_base(manifest, paths.model) and sha256_folder(paths.base) != manifest.base.files:
        raise MlcError(f"{paths.base} is not the base that the adapter was trained on: run `mlc base` and `mlc train`")
    if manifest.git.commit is None:
        raise MlcError(f"{paths.model} comes from no git commit: commit the project, then run `mlc train` again")
    if manifest.git.dirty:
        changed = ", ".join(manifest.git.changed)
        raise MlcError(f"{paths.model} was trained with uncommitted changes ({changed}): commit, then run `mlc train`")


def _provenance(verdict: Verdict, manifest: Manifest, settings: Settings, paths: Paths) -> Provenance:
    """Where the candidate and its verdict come from, after everything that decides was checked, and judged again."""
    commit = check_tree(paths)
    _check_origin(manifest, paths)
    records = check_records(paths)
    _check_gate(verdict, settings, paths)
    _check_metrics(settings.languages, paths)
    check_judgements(settings, paths)
    check_calibration(settings, paths)
    data = manifests.data_hash(paths.root / "data.dvc")
    return Provenance(schema_version=Provenance.VERSION, commit=commit, data=data, stages=records)


def _run_id(paths: Paths, digest: str) -> str:
    """The training run, or one in its place where this store does not have it (the model came from DVC's cache)."""
    client = tracking.client(paths)
    pointer = paths.training / "mlflow_run.json"
    if pointer.exists():
        try:
            run = client.get_run(str(read_json(pointer, "mlc train").get("run_id")))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return str(run.info.run_id)
    runs = client.search_runs([tracking.experiment(paths)], f"tags.manifest = '{digest}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    with tracking.run(paths, "register", tags={"manifest": digest}) as run_id:
        return run_id


def _values(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Every estimate's value under its path: ``evaluation/languages/sw/safe_rate``."""
    values: dict[str, float] = {}
    for key, metric in metrics.items():
        if isinstance(metric, dict) and key != "categories":  # many, and of any name: they stay in metrics.json
            path = f"{prefix}/{key}"
            values |= {path: metric["value"]} if "value" in metric else _values(metric, path)
    return values


def _log(paths: Paths, run_id: str, verdict: Verdict) -> None:
    metrics = Metrics.read(paths.evaluation("candidate") / "metrics.json", "mlc metrics")
    tracking.log_metrics(paths, run_id, _values(metrics.content(), "evaluation"))
    tags = {"gate": "passed" if verdict.passed else "failed", "manifest": verdict.manifest}
    tracking.set_tags(paths, run_id, tags)
    tracking.log_artifact(paths, run_id, paths.verdict, "gate")


def _version(
    model: RegisteredModel, manifest: Manifest, provenance: Provenance, run_id: str, settings: Settings, paths: Paths
) -> str | None:
    """The version of this manifest: the one there is, or a new one; none for what was rejected as another version.

    The files of a version are written once and never again: their folder is named by their own hashes.
    """
    digest = manifest.digest
    for version in model.versions():
        if version.tags.get("manifest") == digest:
            return str(version.version)
    if (reason := turned_down(model, manifest)) and reason.startswith("rejected "):
        return None
    for left in paths.artifacts.glob(".register-*"):  # by a kill
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".register-", dir=paths.artifacts) as folder:
        package.save(Path(folder) / "model", manifest, provenance, settings.evaluate, paths)
        served.check(Path(folder) / "model", manifest, settings, paths)
        files = sha256(Path(folder) / "model" / FILES)
        where = f"registered/{digest[:12]}-{files[:12]}"
        tracking.log_artifacts(paths, run_id, Path(folder) / "model", where)
    model.create()
    # The version comes last, with all its tags in one write: what has a version is complete.
    created = model.client.create_model_version(
        model.name,
        source=f"{model.client.get_run(run_id).info.artifact_uri}/{where}",
        run_id=run_id,
        tags={
            "manifest": digest,
            "verdict": sha256(paths.verdict),
            "files": files,
            "git_commit": manifest.git.commit,
            "data": manifest.data.pointer or manifest.data.prompts,
            "evaluation_commit": provenance.commit,
            **({"evaluation_data": provenance.data} if provenance.data else {}),
        },
    )
    return str(created.version)


def _keep_commits(name: str, version: str, provenance: Provenance, paths: Paths) -> None:
    """A git ref for each commit that a version comes from, so that it can be made again when their branch is gone."""
    commits = {record.commit for record in provenance.stages.values() if record.commit is not None}
    keep_commits(
        paths.root, f"{quote(name, safe='').replace('.', '%2E')}/{version}", sorted({*commits, provenance.commit})
    )


def run(settings: Settings, paths: Paths) -> None:
    """Registers a candidate that passed, promotes it if it is better, and writes ``artifacts/registration.json``.

    A candidate that failed is a result too: it gets no version, and the file and the screen say why.

    Raises:
        IntegrityError: the candidate is registered already, and is not what was registered; or the packaged model does
            not answer as it was evaluated.
        MlcError: something that decides is not committed; a stage ran with other code, settings or files than there
            are now; the verdict is not about this model, these samples and languages, or not the gate's; the judge says
            something else of the replies; the metrics are not of these samples; or a file changed since training.
    """
    verdict = Verdict.read(paths.verdict, "mlc gate")
    manifest = Manifest.of(paths.model)
    _check_verdict(verdict, manifest, settings.languages, paths)
    provenance = _provenance(verdict, manifest, settings, paths) if verdict.passed else None
    run_id = _run_id(paths, verdict.manifest)
    _log(paths, run_id, verdict)
    model = RegisteredModel(paths, settings.register_.model_name)
    version: str | None = None
    decision = Decision([], f"{len(verdict.failed)} rules of the gate failed", waiting=False)
    with model.moving():
        if provenance is not None:
            version = _version(model, manifest, provenance, run_id, settings, paths)
            if version is not None:
                _keep_commits(model.name, version, provenance, paths)
            decision = _promote(model, version, settings, paths)
        Registration(
            schema_version=Registration.VERSION,
            registered=version is not None,
            promoted=False,
            waiting=decision.waiting,
            reason=decision.reason,
            failed=verdict.failed,
            model=model.name,
            version=version,
            manifest=verdict.manifest,
            run_id=run_id,
            comparison=decision.comparison,
            champion=None,
            previous=None,
            ledger=[],
        ).as_now(model).write(paths.registration)
    what = f"version {version} of {model.name}" if version else "not registered"
    print("\n  ".join([f"register: {what}: {decision.reason or 'champion'}", *verdict.failed]))


class Decision(NamedTuple):
    """The comparison with the champion, why that one stays if so, and whether a person has to approve."""

    comparison: list[RuleResult]
    reason: str | None
    waiting: bool


def _promote(model: RegisteredModel, version: str | None, settings: Settings, paths: Paths) -> Decision:
    """Moves the aliases, to what the store holds as it was registered."""
    champion = model.alias("champion")
    if version is not None and champion == version:
        model.make_champion("promote", version)
        return Decision([], None, False)
    said = rejection_reason(model.ledger(), version) if version is not None else None
    reason = said or turned_down(model, Manifest.of(paths.model))
    if version is None or reason is not None:
        return Decision([], reason, False)
    with verified(model, version):
        model.move("register", "candidate", version)
    comparison: list[RuleResult] = []
    if champion is not None:
        margin, confidence = settings.register_.margin, settings.gate.confidence
        samples = paths.samples("candidate")
        comparison, reason = compare(model, samples, champion, settings.languages, margin, confidence)
        if reason is not None:
            return Decision(comparison, reason, False)
    if settings.register_.approval == "required":
        waits = f"waiting for approval: `mlc registry approve {version} --why ...`, or reject"
        return Decision(comparison, waits, True)
    model.make_champion("promote", version)
    return Decision(comparison, None, False)
