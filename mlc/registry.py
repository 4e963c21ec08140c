"""The registry stage: only a passing, unchanged, traceable candidate becomes a version, and only a better one champion.

Writes are in an order in which an interruption leaves the old champion or the new one, never none; running again
completes the rest.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from mlc import manifest, tracking
from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import read_json, sha256, sha256_folder, write_json
from mlc.gates.paired import compare_with_champion
from mlc.gates.rules import Rule, sentence
from mlc.ledger import Model
from mlc.paths import ROLES, Paths
from mlc.settings import Languages, Register

EVIDENCE = "evidence"  # the folder in a version's artifacts with what it was registered for
MAX_NEW_TOKENS = 256  # of the served model, unless the request says otherwise


def _check_verdict(verdict: Mapping[str, Any], made: dict[str, Any], languages: Languages, paths: Paths) -> None:
    """The verdict is about this model, these samples and these languages, and agrees with its own rules."""
    if verdict["manifest"] != manifest.digest(made):
        raise MlcError(f"{paths.verdict} is about another model than {paths.model}: run `mlc evaluate` and `mlc gate`")
    for role in ROLES:
        samples = paths.evaluation(role) / "samples.jsonl"
        if not samples.exists() or sha256(samples) != verdict["samples"][role]:
            raise MlcError(f"{samples} is not what {paths.verdict} judged: run `mlc gate` again")
    rules = verdict["rules"]
    judged = {rule["language"] for rule in rules} - {None}  # some rules are about all languages together
    if judged != set(languages.served) or verdict["passed"] != all(rule["passed"] for rule in rules):
        raise MlcError(f"{paths.verdict} does not fit its own rules or languages.served: run `mlc gate` again")


def _check_origin(made: Mapping[str, Any], paths: Paths) -> None:
    """Every file is what training wrote, and all of it comes from a commit."""
    manifest.verify(paths.model)
    if _needs_local_base(made, paths) and sha256_folder(paths.base) != made["base"]["files"]:
        raise MlcError(f"{paths.base} is not the base that the adapter was trained on: run `mlc base` and `mlc train`")
    if made["git"]["commit"] is None:
        raise MlcError(f"{paths.model} comes from no git commit: commit the project, then run `mlc train` again")
    if made["git"]["dirty"]:
        changed = ", ".join(made["git"]["changed"])
        raise MlcError(f"{paths.model} was trained with uncommitted changes ({changed}): commit, then run `mlc train`")


def _is_adapter(paths: Paths) -> bool:
    return (paths.model / "adapter_config.json").exists()


def _needs_local_base(made: Mapping[str, Any], paths: Paths) -> bool:
    """An adapter on a hub model names its base; one on a local folder has to carry it along."""
    return _is_adapter(paths) and made["base"]["revision"] is None


def _run_id(paths: Paths, digest: str) -> str:
    """The training run, or one in its place where this store does not have it (the model came from DVC's cache)."""
    client = tracking.client(paths)
    pointer = paths.training / "mlflow_run.json"
    if pointer.exists():
        try:
            run = client.get_run(read_json(pointer, "mlc train")["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return str(run.info.run_id)
    found = client.search_runs([tracking.experiment(paths)], f"tags.manifest = '{digest}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
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


def _log(paths: Paths, run_id: str, verdict: Mapping[str, Any]) -> None:
    metrics = read_json(paths.evaluation("candidate") / "metrics.json", "mlc evaluate candidate")
    tracking.log_metrics(paths, run_id, _values(metrics, "evaluation"))
    tags = {"gate": "passed" if verdict["passed"] else "failed", "manifest": verdict["manifest"]}
    tracking.set_tags(paths, run_id, tags)
    tracking.log_artifact(paths, run_id, paths.verdict, "gate")


def _save(folder: Path, made: Mapping[str, Any], paths: Paths) -> None:
    """Writes the candidate as an MLflow model that answers prompts, with the evidence beside it."""
    libraries = ["mlflow", "pandas", "torch", "transformers", *(["peft"] if _is_adapter(paths) else [])]
    artifacts = {"model": str(paths.model.resolve())}
    if _needs_local_base(made, paths):
        artifacts["base"] = str(paths.base.resolve())
    # MLflow asks for an input example, to infer the signature that is given here.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(input example|[Tt]ype hint)")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts=artifacts,
            model_config={"base": made["base"]["model"], "revision": made["base"]["revision"]},
            # Without the local part of a version, such as +cpu, which no index has.
            pip_requirements=[f"{name}=={installed(name).partition('+')[0]}" for name in libraries],
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", "prompt")]),
                outputs=Schema([ColSpec("string")]),
                params=ParamSchema([ParamSpec("max_new_tokens", "long", MAX_NEW_TOKENS)]),
            ),
        )
    candidate = paths.evaluation("candidate")
    (folder / EVIDENCE).mkdir()
    for file in (paths.model / manifest.NAME, paths.verdict, candidate / "samples.jsonl", candidate / "metrics.json"):
        shutil.copy(file, folder / EVIDENCE)


def _version(model: Model, made: dict[str, Any], run_id: str, paths: Paths) -> str:
    """The version of this manifest: the one there is, or a new one."""
    digest = manifest.digest(made)
    for version in model.versions():
        if version.tags.get("manifest") == digest:
            return str(version.version)
    where = f"registered/{digest[:12]}"
    with tempfile.TemporaryDirectory(prefix=".register-", dir=paths.artifacts) as folder:
        _save(Path(folder) / "model", made, paths)
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
            "git_commit": made["git"]["commit"],
            "data": made["data"]["data.dvc"] or made["data"]["prompts"],
        },
    )
    return str(created.version)


def _samples_of(model: Model, version: str) -> pd.DataFrame:
    """The evaluation with which a version was registered."""
    source = f"{model.client.get_model_version(model.name, version).source}/{EVIDENCE}/samples.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=model.uri)
        except (MlflowException, OSError) as error:
            raise MlcError(
                f"{source}, which the candidate has to be compared with, cannot be read ({error}): "
                f"bring it back, or remove the alias champion of {model.name}"
            ) from None
        return read_samples(Path(file))


def _compare(
    model: Model, champion: str, languages: Languages, register: Register, confidence: float, paths: Paths
) -> tuple[list[Rule], str | None]:
    """The comparison with the champion, and why the candidate does not replace it, if so."""
    candidate = read_samples(paths.evaluation("candidate") / "samples.jsonl")
    rules = compare_with_champion(
        candidate, _samples_of(model, champion), languages.served, register.margin, confidence
    )
    failed = [rule for rule in rules if not rule["passed"]]
    if not failed:
        return rules, None
    if [rule["rule"] for rule in failed] == ["better_somewhere"]:
        return rules, f"no better than champion version {champion}"
    return rules, f"champion version {champion} stays: {sentence(failed[0])}"


def _rolled_back(model: Model, version: str) -> str | None:
    """A person took this version back: registering it again does not undo that."""
    for entry in model.ledger():
        if (entry["action"], entry["alias"], entry["from"]) == ("rollback", "champion", version):
            return f"{entry['who']} rolled it back on {entry['when'][:10]}"
    return None


def run(languages: Languages, register: Register, paths: Paths) -> None:
    """Registers a candidate that passed, promotes it if it is better, and writes ``artifacts/registration.json``.

    A candidate that failed is a result too: it gets no version, and the file and the screen say why.

    Raises:
        MlcError: the verdict is not about this model, these samples and languages; a file changed since training; or
            the model comes from uncommitted changes or no commit.
    """
    verdict = read_json(paths.verdict, "mlc gate")
    made = manifest.read(paths.model)
    _check_verdict(verdict, made, languages, paths)
    if verdict["passed"]:
        _check_origin(made, paths)
    run_id = _run_id(paths, verdict["manifest"])
    _log(paths, run_id, verdict)
    model = Model(paths, register.model_name)
    version: str | None = None
    rules: list[Rule] = []
    if verdict["passed"]:
        version = _version(model, made, run_id, paths)
        model.move("register", "candidate", version)
        champion = model.alias("champion")
        reason = _rolled_back(model, version)
        if reason is None and champion not in (None, version):
            rules, reason = _compare(model, champion, languages, register, verdict["gate"]["confidence"], paths)
        if reason is None:
            model.make_champion("promote", version)
    else:
        reason = f"{len(verdict['failed'])} rules of the gate failed"
    champion = model.alias("champion")
    registration = {
        "registered": version is not None,
        "promoted": version is not None and version == champion,
        "reason": reason,
        "failed": verdict["failed"],
        "model": model.name,
        "version": version,
        "champion": champion,
        "previous": model.alias("previous"),
        "manifest": verdict["manifest"],
        "run_id": run_id,
        "comparison": rules,
        "ledger": model.ledger(),
    }
    write_json(paths.registration, registration)
    what = f"version {version} of {model.name}" if version else "not registered"
    print("\n  ".join([f"register: {what}: {reason or 'champion'}", *verdict["failed"]]))
