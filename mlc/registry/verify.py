"""Is a registered version still what was registered? Its files are fetched from the store and hashed again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
from mlflow.exceptions import MlflowException

from mlc.errors import IntegrityError, MlcError
from mlc.files import differences as changed_files
from mlc.files import read_json, sha256, sha256_folder
from mlc.gates.verdict import Verdict
from mlc.models import base as bases
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import pickles
from mlc.registry.model import RegisteredModel
from mlc.settings import Base

EVIDENCE = "evidence"  # the folder in a version's artifacts with what it was registered for
FILES = f"{EVIDENCE}/files.json"  # sha256 of every other file of the version
LOADED = "registered_model_meta"  # MLflow's own note, which it leaves in a local store when it loads a version
MODEL, BASE = "artifacts/model", "artifacts/base"  # weights or adapter; the base that an adapter carries along


@contextmanager
def fetched(model: RegisteredModel, version: str, part: str = "") -> Iterator[Path]:
    """The files of a version, or one part of them, for the time of the block; from a local store not copied.

    Raises:
        MlcError: the store does not have them, or cannot be reached.
    """
    source = model.version(version).source
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
    found = []
    if sha256(listed) != tags.get("files"):
        found.append(f"{FILES} is not the one that was registered")
    now = sha256_folder(folder)
    del now[FILES]
    now.pop(LOADED, None)
    found += changed_files(read_json(listed, "mlc register"), now)
    try:
        manifest = Manifest.read(folder / EVIDENCE / manifests.NAME, "mlc register")
        verdict = Verdict.read(folder / EVIDENCE / "verdict.json", "mlc register")
    except MlcError as error:
        return [*found, str(error)]
    found += _against_manifest(manifest, folder, tags)
    if sha256(folder / EVIDENCE / "verdict.json") != tags.get("verdict"):
        found.append("the verdict is not the one that was registered")
    if any(e["to"] == version and e["verdict"] != tags.get("verdict") for e in model.ledger()):
        found.append("the verdict's hash in the version's tag is not the one in the ledger")
    if not (verdict.passed and verdict.rules and verdict.follows_from_rules):
        found.append("the verdict did not pass")
    if verdict.manifest != manifest.digest:
        found.append("the verdict is about another model")
    if unsafe := pickles(folder):
        found.append(f"pickles: {', '.join(unsafe)}")
    samples = folder / EVIDENCE / "samples.jsonl"
    if not samples.is_file() or sha256(samples) != verdict.samples["candidate"]:
        found.append(f"{EVIDENCE}/samples.jsonl is not what the verdict judged")
    return found


def _against_manifest(manifest: Manifest, folder: Path, tags: Mapping[str, str]) -> list[str]:
    found = []
    if manifest.digest != tags.get("manifest"):
        found.append("the manifest is not the one that was registered")
    weights = {name: digest for name, digest in sha256_folder(folder / MODEL).items() if name != manifests.NAME}
    found += [f"{MODEL}: {what}" for what in changed_files(manifest.files, weights)]
    if (folder / BASE).is_dir():
        base = changed_files(manifest.base.files, sha256_folder(folder / BASE))
        found += [f"{BASE}: {what}" for what in base]
    return found


@contextmanager
def verified(model: RegisteredModel, version: str) -> Iterator[Path]:
    """The files of a version, hashed again.

    Raises:
        IntegrityError: something differs from what was registered.
        MlcError: they cannot be read.
    """
    with fetched(model, version) as folder:
        if found := differences(model, version, folder):
            raise IntegrityError(
                f"version {version} of {model.name} is not what was registered: {'; '.join(found)}. Do not use it:"
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
    if (version / BASE).is_dir():
        yield version / BASE
        return
    if origin.revision is None:
        raise MlcError(
            f"the version was made from another base than {places[0]}: bring back {origin.model} as in commit"
            f" {manifest.git.commit}, and run `mlc base`"
        )
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        target = Path(folder) / "base"
        bases.place(Base(model=origin.model, revision=origin.revision), Path(folder), target)
        if changes := changed_files(origin.files, sha256_folder(target)):
            raise IntegrityError(f"{origin.model} is not the base of the training: {'; '.join(changes)}")
        yield target
