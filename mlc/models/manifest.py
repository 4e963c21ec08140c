"""The manifest: everything a model was made from, and the hash of every file it consists of.

It lies in the model's folder as ``manifest.json``. ``register`` takes a model only when its files still are what it
says.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, Field, JsonValue
from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.files import JsonFile, JsonPart, differences, sha256, sha256_folder, sha256_json
from mlc.git import GitState
from mlc.models.template_arguments import arguments_of
from mlc.models.weights import pickles
from mlc.paths import Paths
from mlc.settings import Languages, Train

NAME = "manifest.json"
MADE_BY = "mlc train` and `mlc select"
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "mlc-pipeline")


class BaseOrigin(JsonPart):
    """The base: a folder (``revision`` null) or a model of the hub at a commit; ``files`` are path -> sha256, after
    ``template_arguments`` were written into its chat template."""

    model: str
    revision: str | None
    files: dict[str, str]
    template_arguments: dict[str, bool | int | str] = Field(default_factory=dict)


class DataHashes(JsonPart):
    """``pointer`` is the md5 that data.dvc names, null without one; ``prompts`` the sha256 of the clean ones."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    pointer: str | None = Field(alias="data.dvc")
    prompts: str


class LanguageTags(JsonPart):
    """The languages of params.yaml, as they were; how they are identified decides no training."""

    source: str
    served: list[str]
    transfer: list[str]


class Parameters(JsonPart):
    """The sections of params.yaml that decided the training, as they were."""

    languages: LanguageTags
    train: dict[str, JsonValue]


class Fitting(JsonPart):
    """How many of a kind were trained on and how many were too long for it, and the longest one's tokens."""

    used: int
    left_out: int
    longest: int

    @property
    def total(self) -> int:
        return self.used + self.left_out


class TrainedOn(JsonPart):
    """What of the alignment prompts was trained on: rows by intent, and variants by language in those rows.

    A row is counted with its prompt and its longer reply. ``variants`` is empty where the objective has no weight.
    """

    max_length: int
    rows: dict[str, Fitting]
    variants: dict[str, Fitting]

    @property
    def text(self) -> str:
        """One line for people."""
        rows = ", ".join(f"{one.used} of {one.total} {intent}" for intent, one in self.rows.items())
        out = {tag: one.left_out for tag, one in self.variants.items() if one.left_out}
        text = f"{rows} rows fit max_length {self.max_length}"
        return text + (f"; variants left out: {', '.join(f'{n} in {tag}' for tag, n in out.items())}" if out else "")


class Manifest(JsonFile):
    """Where a model comes from.

    ``files`` and ``base.files`` are relative path -> sha256. ``step`` is the training step that it is of. ``dvc_lock``
    is the sha256 of dvc.lock, null without one; ``libraries`` are package -> version. ``trained_on`` is null in those
    of before it was counted.
    """

    files: dict[str, str]
    step: int
    base: BaseOrigin
    data: DataHashes
    dvc_lock: str | None
    git: GitState
    parameters: Parameters
    libraries: dict[str, str]
    python: str
    trained_on: TrainedOn | None = None

    @classmethod
    def of(cls, model_folder: Path) -> Self:
        """The manifest in a model's folder."""
        return cls.read(model_folder / NAME, MADE_BY)

    @property
    def digest(self) -> str:
        """sha256 of its content: the identity of a model and everything it came from."""
        return sha256_json(self.content())


def data_hash(pointer: Path) -> str | None:
    """The hash that data.dvc gives for the prompt sets; None where there is no data.dvc."""
    if not pointer.exists():
        return None
    try:
        return str(YAML(typ="safe", pure=True).load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError):
        raise MlcError(f"{pointer} names no output with an md5: run `dvc add data`") from None


def write(
    model_folder: Path,
    *,
    languages: Languages,
    train: Train,
    base_model: str,
    base_revision: str | None,
    paths: Paths,
    git: GitState,
    trained_on: TrainedOn,
    step: int | None = None,
    base_files: dict[str, str] | None = None,
) -> Manifest:
    """Writes ``manifest.json`` into a finished model's folder and returns it. Call it last: it hashes what is there.

    ``git`` is what was checked out when the training started; ``step`` the training step that the model is of, null
    for the last. ``base_files`` are the hashes of the base's
    files, where they are known already.

    Raises:
        MlcError: data.dvc is broken.
        FileNotFoundError: there are no clean prompts.
    """
    lock = paths.root / "dvc.lock"
    manifest = Manifest(
        schema_version=Manifest.VERSION,
        files=_hashes(model_folder),
        step=step or train.max_steps,
        base=BaseOrigin(
            model=base_model,
            revision=base_revision,
            files=base_files or sha256_folder(paths.base),
            template_arguments=arguments_of(paths.base),
        ),
        data=DataHashes(pointer=data_hash(paths.root / "data.dvc"), prompts=sha256(paths.prompts / "alignment.jsonl")),
        dvc_lock=sha256(lock) if lock.exists() else None,
        git=git,
        parameters=Parameters(
            languages=LanguageTags(
                source=languages.source, served=list(languages.served), transfer=list(languages.transfer)
            ),
            train=train.model_dump(mode="json"),
        ),
        libraries={name: version(name) for name in LIBRARIES},
        python=platform.python_version(),
        trained_on=trained_on,
    )
    manifest.write(model_folder / NAME)
    return manifest


def _hashes(model_folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in sha256_folder(model_folder).items() if name != NAME}


def verify(model_folder: Path) -> Manifest:
    """Hashes every file of the model again and returns the manifest.

    Raises:
        MlcError: there is no manifest, a file was changed, is missing, or was added since training, or is a pickle.
    """
    manifest = Manifest.of(model_folder)
    changes = differences(manifest.files, _hashes(model_folder))
    if changes:
        raise MlcError(
            f"{model_folder} is not what {NAME} says ({'; '.join(changes)}): run `mlc train` again, or restore the"
            " files"
        )
    if unsafe := pickles(model_folder):
        raise MlcError(
            f"{model_folder} holds {', '.join(unsafe)}: a pickle can run any code when it is loaded; save the model as"
            " *.safetensors, and remove these"
        )
    return manifest
