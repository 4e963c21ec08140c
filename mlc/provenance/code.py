"""Which code runs: the hashes of the imported package and of its parts, and whether it is the code of a commit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import mlc
from mlc import git
from mlc.errors import MlcError
from mlc.files import sha256, sha256_json

PACKAGE = Path(mlc.__file__).parent
LOCK = "mlc.lock"  # the hashes of the code, in a project whose code is an installed package


def _files(folder: Path) -> dict[str, Path]:
    """Relative path -> path of every file below ``folder``, compiled files left out."""
    return {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc"}


def package_hash() -> str:
    """The hash of every file of the imported package, compiled files left out."""
    return sha256_json({name: sha256(file) for name, file in _files(PACKAGE).items()})


def part(dependency: str) -> str:
    """The name of a part of the code, for a dependency of dvc.yaml: ``mlc/quality/datacard.py`` ->
    ``mlc/quality/datacard``, which stands for all files of that name and for the folder. It has no dots, which DVC
    takes for nesting."""
    folder, _, name = dependency.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def part_hashes(names: Iterable[str]) -> dict[str, str]:
    """Name -> hash of parts of the imported package, each of whose files is read once."""
    files, hashes = _files(PACKAGE), dict[str, str]()

    def belongs(file: str, part: str) -> bool:
        return file.startswith(f"{part}/") or (file.startswith(f"{part}.") and "/" not in file[len(part) :])

    digest = cache(lambda file: sha256(files[file]))
    for name in names:
        part = name.removeprefix("mlc/")
        hashes[name] = sha256_json({file: digest(file) for file in files if belongs(file, part)})
    return hashes


def state(root: Path) -> git.GitState:
    """git's state of the project, which also counts as changed: code that is imported from elsewhere and is not the
    project's, and an installed package that no mlc.lock pins."""
    now = git.state(root)
    if now.commit is None:
        return now
    foreign = _foreign(root)
    return now if foreign is None else git.GitState(commit=now.commit, dirty=True, changed=[*now.changed, foreign])


def _foreign(root: Path) -> str | None:
    """What is wrong with where the package is imported from, in words; None where nothing is."""
    own = root.resolve() / "mlc"
    if not (own / "__init__.py").is_file():
        return None if (root / LOCK).is_file() else f"{LOCK} (missing)"
    if own == PACKAGE.resolve():
        return None
    for name, file in _files(own).items():
        imported = PACKAGE / name
        if not imported.is_file() or sha256(imported) != sha256(file):
            return f"mlc (imported from {PACKAGE}, whose {name} is another)"
    return None


def data_changes(root: Path) -> list[str]:
    """The outputs of the project's .dvc files that are not what these say, with the reason; missing ones do not count.

    Raises:
        MlcError: a .dvc file cannot be read.
    """
    pointers = sorted(f.name for f in root.glob("*.dvc") if f.is_file())
    if not pointers or not (root / ".dvc").is_dir():
        return []
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    changed = []
    try:
        with Repo(str(root)) as repo:
            for pointer in pointers:
                for stage in repo.stage.load_file(str(root / pointer)):
                    for out in stage.outs:
                        if out.exists and out.changed_checksum():
                            name = Path(out.fs_path).relative_to(root.resolve()).as_posix()
                            changed.append(f"{name} (not what {pointer} says: `dvc add {name}`)")
    except DvcException as error:
        raise MlcError(f"DVC cannot say whether the data is what {', '.join(pointers)} say: {error}") from None
    return changed
