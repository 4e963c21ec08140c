"""What a version consists of: an MLflow model that answers chats, its card, and the evidence it was registered for.

The MLflow model is made from code (``pyfunc_model.py`` and ``mlc/models/inference.py``), so that nothing in it is a
pickle. What it needs beside the weights to answer as it was evaluated is in its configuration.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Object, Property

import mlc.models
from mlc import licences
from mlc.files import link_folder, sha256_folder, write_json
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import is_adapter
from mlc.paths import Paths
from mlc.provenance.chain import Provenance
from mlc.registry import model_card
from mlc.registry.verify import EVIDENCE, FILES
from mlc.settings import Evaluate

INFERENCE = Path(mlc.models.__file__).with_name("inference.py")  # not imported: to say no, register needs no torch
MESSAGES = Array(Object([Property("role", "string"), Property("content", "string")]))
CHOICES = Array(
    Object(
        [
            Property("index", "long"),
            Property("message", Object([Property("role", "string"), Property("content", "string")])),
            Property("finish_reason", "string"),
        ]
    )
)


def _signature(max_new_tokens: int) -> ModelSignature:
    """Of a model whose replies have up to so many tokens, unless the request asks for fewer."""
    return ModelSignature(
        inputs=Schema([ColSpec(MESSAGES, "messages")]),
        outputs=Schema([ColSpec("string", "object"), ColSpec(CHOICES, "choices")]),
        params=ParamSchema([ParamSpec("max_tokens", "long", max_new_tokens)]),
    )


def needs_local_base(manifest: Manifest, folder: Path) -> bool:
    """An adapter on a hub model names its base; one on a local folder has to carry it along."""
    return is_adapter(folder) and manifest.base.revision is None


def serving_config(folder: Path) -> dict[str, Any]:
    """How a version is served: ``precision``, ``max_new_tokens`` and more; empty where none was written down."""
    if not (folder / "MLmodel").is_file():
        return {}
    return dict(Model.load(str(folder)).flavors["python_function"].get("config") or {})


def save(folder: Path, manifest: Manifest, provenance: Provenance, evaluate: Evaluate, paths: Paths) -> None:
    """Writes the candidate as an MLflow model that answers as ``evaluate`` had it answer, with its card and evidence,
    and the hashes of all of it."""
    with tempfile.TemporaryDirectory(prefix=".register-", dir=folder.parent) as scratch:
        _save_model(folder, manifest, evaluate, paths, Path(scratch))
    candidate = paths.evaluation("candidate")
    (folder / EVIDENCE).mkdir()
    for file in (paths.model / manifests.NAME, paths.verdict, candidate / "samples.jsonl", candidate / "metrics.json"):
        shutil.copy(file, folder / EVIDENCE)
    shutil.copy(paths.evaluation("base") / "metrics.json", folder / EVIDENCE / "base_metrics.json")
    shutil.copy(paths.samples("base"), folder / EVIDENCE / "base_samples.jsonl")
    provenance.write(folder / EVIDENCE / "provenance.json")
    # Read by the gate where it has such rules; then what the commit holds too, but for a dvc.lock that nobody
    # committed.
    read_by_rules = (paths.calibration, paths.tasks / "answers.jsonl")
    for file in (*read_by_rules, paths.params, paths.root / "dvc.lock", paths.root / "data.dvc"):
        if file.exists():
            shutil.copy(file, folder / EVIDENCE)
    model_card.write(folder, licences.of_card(paths.base), evaluate.max_new_tokens)
    write_json(folder / FILES, sha256_folder(folder))


def _unlinked(folder: Path, scratch: Path) -> str:
    """A model's folder for MLflow, which refuses symbolic links: DVC makes such outputs with `cache.type symlink`."""
    if not any(file.is_symlink() for file in folder.rglob("*")):
        return str(folder.resolve())
    link_folder(folder, scratch / folder.name)
    return str((scratch / folder.name).resolve())


def _save_model(folder: Path, manifest: Manifest, evaluate: Evaluate, paths: Paths, scratch: Path) -> None:
    adapter = is_adapter(paths.model)
    libraries = ["mlflow", "pandas", "torch", "transformers", *(["peft"] if adapter else [])]
    artifacts = {"model": _unlinked(paths.model, scratch), "inference": str(INFERENCE.resolve())}
    if needs_local_base(manifest, paths.model):
        artifacts["base"] = _unlinked(paths.base, scratch)
    # MLflow asks for an input example, to infer the signature that is given here.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(input example|[Tt]ype hint)")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts=artifacts,
            model_config={
                "base": manifest.base.model,
                "revision": manifest.base.revision,
                "precision": evaluate.precision,
                "max_new_tokens": evaluate.max_new_tokens,
                "batch_tokens": evaluate.batch_tokens,
            },
            # Without the local part of a version, such as +cpu, which no index has.
            pip_requirements=[f"{name}=={installed(name).partition('+')[0]}" for name in libraries],
            signature=_signature(evaluate.max_new_tokens),
        )
