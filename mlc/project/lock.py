"""``mlc.lock``: which code a project's results were made with, where the code is an installed package.

In this repository, dvc.yaml names the files of ``mlc/`` that decide a stage's result. A project of ``mlc init`` has no
such files; mlc.lock has their hashes instead, and its dvc.yaml names those, as parameters. An upgrade of the package
then runs again exactly the stages whose code it changed, and nothing before ``mlc init --upgrade`` has rewritten
mlc.lock: until then the stages refuse to run with another code than the one written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlc.errors import MlcError
from mlc.files import replacing
from mlc.provenance.code import part, part_hashes

HEAD = "# Written by `mlc init --upgrade`: the code that decides each stage's result, and its hash. Commit it.\n"


def write(path: Path, dependencies: Iterable[str]) -> None:
    """Writes the version and the hashes of the installed package's code that these dependencies of dvc.yaml name."""
    keys = sorted({part(dependency) for dependency in dependencies})
    content = {"version": version("mlc-pipeline"), "code": part_hashes(keys)}
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(HEAD)
        yaml = YAML()
        yaml.width = 120
        yaml.dump(content, file)


def check(path: Path) -> None:
    """Nothing, where the code is what mlc.lock says, or there is no mlc.lock.

    Raises:
        MlcError: it says something else, or cannot be read.
    """
    if not path.exists():
        return
    try:
        content: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        locked, code = str(content["version"]), dict(content["code"])
    except (YAMLError, KeyError, TypeError, ValueError):
        raise MlcError(f"{path} cannot be read: bring back the committed one, or run `mlc init --upgrade`") from None
    changed = [key for key, digest in part_hashes(code).items() if digest != code[key]]
    if changed:
        raise MlcError(
            f"{path} is of mlc-pipeline {locked}; the installed {version('mlc-pipeline')} has other code in"
            f" {', '.join(changed)}: install {locked}, or run `mlc init --upgrade` and commit {path.name}"
        )
