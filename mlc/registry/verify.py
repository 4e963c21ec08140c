"""Is a registered version still what was registered? Its files are fetched from the store and hashed again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
from mlflow.exceptions import MlflowException

from mlc.errors import IntegrityError, MlcError, is_transient
from mlc.evaluation.calibration import Calibration
from mlc.evaluation.metrics import Metrics
from mlc.files import differences as changed_files
from mlc.files import read_json, sha256, sha256_folder
from mlc.gates.verdict import Verdict
from mlc.models import base as bases
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import pickles
from mlc.provenance.chain import Provenance
from mlc.registry.model import RegisteredModel
from mlc.settings import Base

EVIDENCE = "evidence"  # the folder in a version's artifacts with what it was registered for
FILES = f"{EVIDENCE}/files.json"  # sha256 of every other file of the version
LOADED = "registered_model_meta"  # MLflow's own note, which it leaves in a local store when it loads a version
MODEL, BASE = "artifacts/model", "artifacts/base"  # weights or adapter; the base that an adapter carries along
MADE_BY = "mlc register"


@dataclass(frozen=True)
class Evidence:
    """The evidence that a version was registered for, in ``folder``.

    What reads a file raises ``MlcError`` where it is missing or broken; ``made_by`` is the command that makes it.
    """

    folder: Path

    @property
    def samples(self) -> Path:
        """The candidate's sample lines."""
        return self.folder / "samples.jsonl"

    @property
    def verdict_file(self) -> Path:
        return self.folder / "verdict.json"

    @property
    def base_samples(self) -> Path:
        """The base's sample lines."""
        return self.folder / "base_samples.jsonl"

    def provenance(self, made_by: str = MADE_BY) -> Provenance | None:
        """None for a version from before provenance was recorded."""
        path = self.folder / "provenance.json"
        return Provenance.read(path, made_by) if path.is_file() else None

    def calibration(self, made_by: str = MADE_BY) -> Calibration:
        """The judge's, where the gate asks for it."""
        return Calibration.read(self.folder / "calibration.json", made_by)

    def manifest(self, made_by: str = MADE_BY) -> Manifest:
        return Manifest.read(self.folder / manifests.NAME, made_by)

    def verdict(self, made_by: str = MADE_BY) -> Verdict:
        return Verdict.read(self.verdict_file, made_by)

    def metrics(self, made_by: str = MADE_BY) -> Metrics:
        """The candidate's."""
        return Metrics.read(self.folder / "metrics.json", made_by)

    def base_metrics(self, made_by: str = MADE_BY) -> Metrics:
        return Metrics.read(self.folder / "base_metrics.json", made_by)


@dataclass(frozen=True)
class VersionFiles:
    """The files of a version, in ``folder``."""

    folder: Path

    @property
    def weights(self) -> Path:
        """Weights or adapter, with tokenizer and manifest."""
        return self.folder / MODEL

    @property
    def base(self) -> Path:
        """The base that an adapter carries along; there is none otherwise."""
        return self.folder / BASE

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.folder / EVIDENCE)


@contextmanager
def fetched(model: RegisteredModel, version: str, part: str = "") -> Iterator[Path]:
    """The files of a version, or one part of them, for the time of the block; from a local store not copied.

    Raises:
        MlcError: the store does not have them.
        MlflowException, OSError: the store is away; ``is_transient`` tells.
    """
    source = model.location(str(model.version(version).version))
    where = f"{source}/{part}" if part else source
    address = urlparse(source)
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        if address.scheme in ("", "file"):
            path = Path(url2pathname(address.path)) / part
            if not path.exists():
                raise _missing(model, version, f"{path} does not exist")
        else:
            try:
                path = Path(mlflow.artifacts.download_artifacts(where, dst_path=folder, tracking_uri=model.uri))
            except (MlflowException, OSError) as error:
                if is_transient(error):
                    raise  # nothing is missing: the store is away
                raise _missing(model, version, f"{where}: {' '.join(str(error).split())}") from None
        yield path


def _missing(model: RegisteredModel, version: str, why: str) -> MlcError:
    return MlcError(
        f"version {version} of {model.name} cannot be read ({why}): bring its files back from a backup of the store"
    )


def differences(model: RegisteredModel, version: str, folder: Path) -> list[str]:
    """What in a version's fetched files is not as it was registered; nothing where all is well.

    Every file against the list that was made of them, the list against the version's tag; weights and base against the
    manifest, the manifest and the verdict against the version's tags and the ledger; and whether the verdict passed,
    and is about this model.
    """
    tags = model.version(version).tags
    listed = folder / FILES
    if not listed.is_file():
        return [f"{FILES} is missing"]
    faults = []
    if sha256(listed) != tags.get("files"):
        faults.append(f"{FILES} is not the one that was registered")
    now = sha256_folder(folder)
    del now[FILES]
    now.pop(LOADED, None)
    faults += changed_files(read_json(listed, MADE_BY), now)
    files = VersionFiles(folder)
    evidence = files.evidence
    try:
        manifest, verdict = evidence.manifest(), evidence.verdict()
    except MlcError as error:
        return [*faults, str(error)]
    faults += _against_manifest(manifest, files, tags)
    if sha256(evidence.verdict_file) != tags.get("verdict"):
        faults.append("the verdict is not the one that was registered")
    if any(e["to"] == version and e["verdict"] != tags.get("verdict") for e in model.ledger()):
        faults.append("the verdict's hash in the version's tag is not the one in the ledger")
    if not (verdict.passed and verdict.rules and verdict.follows_from_rules):
        faults.append("the verdict did not pass")
    if verdict.manifest != manifest.digest:
        faults.append("the verdict is about another model")
    if unsafe := pickles(folder):
        faults.append(f"pickles: {', '.join(unsafe)}")
    judged = {evidence.samples: verdict.samples["candidate"]}
    if evidence.provenance() is not None:
        judged[evidence.base_samples] = verdict.samples["base"]
    for samples, digest in judged.items():
        if not samples.is_file() or sha256(samples) != digest:
            faults.append(f"{EVIDENCE}/{samples.name} is not what the verdict judged")
    return faults


def _against_manifest(manifest: Manifest, files: VersionFiles, tags: Mapping[str, str]) -> list[str]:
    faults = []
    if manifest.digest != tags.get("manifest"):
        faults.append("the manifest is not the one that was registered")
    weights = {name: digest for name, digest in sha256_folder(files.weights).items() if name != manifests.NAME}
    faults += [f"{MODEL}: {what}" for what in changed_files(manifest.files, weights)]
    if files.base.is_dir():
        base = changed_files(manifest.base.files, sha256_folder(files.base))
        faults += [f"{BASE}: {what}" for what in base]
    return faults


@contextmanager
def verified(model: RegisteredModel, version: str) -> Iterator[Path]:
    """The files of a version, hashed again.

    Raises:
        IntegrityError: something differs from what was registered.
        MlcError: they cannot be read.
    """
    with fetched(model, version) as folder:
        if faults := differences(model, version, folder):
            raise IntegrityError(
                f"version {version} of {model.name} is not what was registered: {'; '.join(faults)}. Do not use it:"
                " restore its files, or go to another version (`mlc registry list`)"
            )
        yield folder


@contextmanager
def base_of(version: Path, manifest: Manifest, *places: Path) -> Iterator[Path]:
    """The base that a version was trained on: in one of the ``places``, carried along, or the hub's, fetched.

    ``version`` is the folder of its verified files.

    Raises:
        IntegrityError: what the hub gives is not that base.
        MlcError: it is in none of these, or cannot be fetched.
    """
    origin = manifest.base
    for place in places:
        if place.is_dir() and sha256_folder(place) == origin.files:
            yield place
            return
    carried = VersionFiles(version).base
    if carried.is_dir():
        yield carried
        return
    if origin.revision is None:
        raise MlcError(
            f"the version was made from another base than {places[0]}: bring back {origin.model} as in commit"
            f" {manifest.git.commit}, and run `mlc base`"
        )
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        target = Path(folder) / "base"
        base = Base(model=origin.model, revision=origin.revision, template_arguments=origin.template_arguments)
        bases.place(base, Path(folder), target)
        if changes := changed_files(origin.files, sha256_folder(target)):
            raise IntegrityError(f"{origin.model} is not the base of the training: {'; '.join(changes)}")
        yield target
