"""The record of a stage, as ``artifacts/provenance/STAGE.json`` holds it; taken at its start, compared at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from mlc.files import JsonFile, sha256, sha256_folder, sha256_json
from mlc.paths import Paths
from mlc.provenance import code
from mlc.provenance.stages import Stage, read_stages, setting

# The stages that decide about a model, in the order in which they run; the others show or measure.
RECORDED = (
    "validate", "base", "trusted_languages", "train", "evaluate_tuning", "calibrate", "select", "evaluate_base",
    "evaluate_candidate", "tasks", "gate",
)  # fmt: skip


class StageRecord(JsonFile):
    """What a stage ran with.

    ``commit`` is the one that was checked out when it started (null outside a repository), ``uncommitted`` what was not
    in it, such as ``params.yaml``; ``changed`` are the code and the inputs that changed while it ran. ``package`` is
    the sha256 of the whole imported package, ``code`` those of the parts that decide this stage's result. ``settings``
    are the values of params.yaml that it reads, by dotted name. ``inputs`` and ``outputs`` are path -> sha256, of a
    folder that of all its files; null where there is no such file.
    """

    stage: str
    commit: str | None
    uncommitted: list[str]
    changed: list[str]
    package: str
    code: dict[str, str]
    settings: dict[str, JsonValue]
    inputs: dict[str, str | None]
    outputs: dict[str, str | None]


def file_hash(path: Path) -> str | None:
    """sha256 of a file, or of the names and hashes of all files of a folder; None where there is neither."""
    if path.is_dir():
        return sha256_json(sha256_folder(path))
    return sha256(path) if path.is_file() else None


def hashes(root: Path, names: Sequence[str]) -> dict[str, str | None]:
    """Path -> hash of files and folders of the project."""
    return {name: file_hash(root / name) for name in names}


def _stamps(root: Path, names: Sequence[str]) -> dict[str, object]:
    """What shows that a file was written to, without reading it: weights are large."""
    stamps: dict[str, object] = {}
    for name in names:
        path = root / name
        for file in [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]:
            if file.exists():
                stat = file.stat()
                stamps[str(file)] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return stamps


def now(stage: Stage, params: object, root: Path) -> StageRecord:
    """The record of a stage that starts now; its outputs are still to be made."""
    state = code.state(root)
    uncommitted = [*state.changed]
    # The manifest of a training names the data by what data.dvc says.
    if any((root / f"{name}.dvc").is_file() for name in stage.inputs) or stage.name == "train":
        uncommitted += code.data_changes(root)
    return StageRecord(
        schema_version=StageRecord.VERSION,
        stage=stage.name,
        commit=state.commit,
        uncommitted=uncommitted,
        changed=[],
        package=code.package_hash(),
        code=code.part_hashes(stage.code),
        settings={name: setting(params, name) for name in stage.settings},
        inputs=hashes(root, stage.inputs),
        outputs={},
    )


@contextmanager
def recorded(name: str, paths: Paths) -> Iterator[None]:
    """Writes the record of the stage that runs in the block; nothing where the project has no dvc.yaml, or the stage
    none in it.

    What is not committed, or changes while the stage runs, does not end it, so that people can try things: the record
    says so, and ``mlc register`` refuses what came of it.

    Raises:
        MlcError: params.yaml or dvc.yaml is broken.
    """
    root, path = paths.root, paths.provenance(name)
    stages, params = read_stages(root) if (root / "dvc.yaml").exists() else ({}, None)
    path.unlink(missing_ok=True)
    stage = stages.get(name)
    if stage is None or not stage.has_record:
        yield
        return
    before = now(stage, params, root)
    stamps = _stamps(root, stage.inputs)
    yield
    changed = [] if code.package_hash() == before.package else ["mlc"]
    if _stamps(root, stage.inputs) != stamps:
        again = hashes(root, stage.inputs)
        changed += [name for name in stage.inputs if again[name] != before.inputs[name]]
    outputs = hashes(root, stage.results)
    before.model_copy(update={"changed": changed, "outputs": outputs}).write(path)
