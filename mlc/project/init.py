"""``mlc init``: a project for somebody's own model, languages and prompts.

Its files are those of this repository, packed into the wheel, with the answers written into them. The embedded world's
code is no part of it: code is the installed package, which mlc.lock pins (see mlc.lock's module).
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.files import replacing, write_text
from mlc.models import base
from mlc.paths import Paths
from mlc.project import lock
from mlc.project.configure import TEMPLATES, merge, recipe_settings, write_over
from mlc.prompts.schema import SETS, languages_of
from mlc.settings import Settings, load_settings

# What the embedded world's settings have that only fits its own model.
OWN: dict[str, Any] = {"train": {"objective": {"layer": -1}}, "evaluate": {"judges": [{"name": "refusal"}]}}
IGNORED = """/.cache/
/.prefect/
/.venv/
/artifacts/
/dvc_plots/
/mlflow/*.db
/mlflow/*.db-*
/mlflow/.*.lock
/mlflow/artifacts/
"""
DVCIGNORE = """# Not part of any dependency or output, and large folders that need not be walked in search of dvc.yaml.
.*.partial
/.venv/
/.prefect/
/mlflow/
/artifacts/checkpoints/
"""
PREFECT = """home = ".prefect"

[server]
analytics_enabled = false

[server.ephemeral]
startup_timeout_seconds = 90
"""


class ProjectLanguages(TypedDict):
    """``languages`` of params.yaml, as JSON has it."""

    source: str
    served: list[str]
    transfer: list[str]


class NewProject(TypedDict):
    """What was set up, what its prompt sets lack, and the commands that come next."""

    folder: str
    model: str
    languages: ProjectLanguages
    recipes: list[str]
    lacks: list[str]
    next: list[str]


@dataclass(frozen=True)
class Answers:
    """What a project is about. ``model`` is a folder or a hub id, ``revision`` the commit of the latter."""

    model: str
    revision: str | None
    source: str
    served: tuple[str, ...]
    transfer: tuple[str, ...]
    name: str
    recipes: tuple[str, ...] = ()
    data: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        model = Path(self.model).resolve().name if self.is_folder else self.model
        return {
            "languages": {"source": self.source, "served": list(self.served), "transfer": list(self.transfer)},
            "base": {"model": model, "revision": None if self.is_folder else self.revision},
            "register": {"model_name": self.name},
        }

    @property
    def is_folder(self) -> bool:
        return Path(self.model).is_dir()


def _params(answers: Answers, path: Path) -> Settings:
    lines = (TEMPLATES / "params.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    while lines[0].startswith("#"):
        lines.pop(0)
    path.write_text("# The settings of this project. recipes/ are overlays: `mlc configure NAME`.\n" + "".join(lines))
    values = deepcopy(OWN)
    for over in (recipe_settings(answers.recipes), answers.settings):
        merge(values, over)
    write_over(path, values, " and ".join([*answers.recipes, "the answers"]))
    return load_settings(path)


def _pipeline(path: Path, model: str | None) -> list[str]:
    """Writes dvc.yaml, with mlc.lock's keys for files of code and ``model`` for the base; returns those files."""
    yaml = YAML()
    yaml.width = 120
    content = yaml.load((TEMPLATES / "stages.yaml").read_text(encoding="utf-8"))
    code: list[str] = []
    for stage in content["stages"].values():
        deps = stage["deps"]
        own = [dep for dep in deps if dep.startswith("mlc/")]
        for dep in [*own, "embedded-base"]:
            if dep in deps:
                del deps[deps.index(dep)]
                if dep == "embedded-base" and model is not None:
                    deps.append(model)
        if own:
            stage["params"].append({lock.NAME: list(dict.fromkeys(f"code.{lock.part(dep)}" for dep in own))})
            code += own
        if not deps:
            del stage["deps"]
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return code


def _append(path: Path, lines: str) -> None:
    """Adds the lines that a file does not have yet."""
    existing = path.read_text(encoding="utf-8") if path.exists() else ""
    new = [line for line in lines.splitlines() if line not in existing.splitlines()]
    if new:
        write_text(path, "\n".join([*existing.splitlines(), *new]) + "\n")


def _check_prompts(folder: Path, settings: Settings) -> list[str]:
    """What the prompt sets lack, in words; raises ``MlcError`` for a line that is no prompt row."""
    lacks = []
    for name in SETS:
        path = folder / f"{name}.jsonl"
        if not path.exists():
            lacks.append(f"{name}.jsonl is not there yet")
            continue
        _, seen = languages_of(path)
        if missing := [tag for tag in settings.languages.served if tag not in seen]:
            lacks.append(f"{name}.jsonl has no prompt in {', '.join(missing)}: `mlc translate` fills in")
    return lacks


def _versioned(folder: Path, outputs: Sequence[str]) -> None:
    """Makes the folder a DVC project in a git repository, where it is none yet, and puts the outputs under DVC."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)

    try:
        top = git("rev-parse", "--show-toplevel")
    except FileNotFoundError:
        raise MlcError("git is not installed: a model that is registered has to come from a commit") from None
    if top.returncode:
        git("init", "--quiet")
    inside = not top.returncode and Path(top.stdout.strip()).resolve() != folder.resolve()
    try:
        with Repo(str(folder)) if (folder / ".dvc").is_dir() else Repo.init(str(folder), subdir=inside) as repo:
            with repo.config.edit() as config:
                config["core"] |= dict.fromkeys(("analytics", "check_update", "autostage"), "false")
            for output in outputs:
                repo.add(str(folder / output))
    except DvcException as error:
        raise MlcError(f"DVC could not be set up in {folder}: {error}") from None


def _next(lacks: Sequence[str], folder: Path, has_data: bool) -> Iterator[str]:
    if folder.resolve() != Path.cwd():
        yield f"cd {folder}"
    if lacks:
        yield "mlc import recipes/imports/table.yaml requests.csv --into data/evaluation.jsonl   # and the others"
    if lacks or not has_data:
        yield "dvc add data"
    yield "git add -A && git commit -m 'Set up the retraining project'"
    yield "mlc doctor"
    yield "mlc run"


def run(folder: Path, answers: Answers) -> NewProject:
    """Sets up the project, and returns what it is and what is left to do. Files that are there stay.

    Raises:
        MlcError: there is a project already, or an answer does not fit; nothing is written then.
    """
    for name in ("params.yaml", "dvc.yaml", lock.NAME):
        if (folder / name).exists():
            raise MlcError(f"{folder / name} exists: this is a project already; `mlc configure` changes its settings")
    if answers.is_folder:
        base.check_files(answers.model, Path(answers.model))
    else:
        base.check_pin(answers.model, answers.revision)
    with tempfile.TemporaryDirectory() as scratch:
        params = Path(scratch) / "params.yaml"
        settings = _params(answers, params)
        lacks = _check_prompts(answers.data or folder / "data", settings)
        folder.mkdir(parents=True, exist_ok=True)
        outputs = []
        paths = Paths(folder)
        if answers.data is not None and answers.data.resolve() != paths.data.resolve():
            for file in sorted(answers.data.glob("*.jsonl")):
                if not (paths.data / file.name).exists():
                    paths.data.mkdir(exist_ok=True)
                    shutil.copy(file, paths.data / file.name)
        paths.data.mkdir(exist_ok=True)
        if has_data := any(paths.data.iterdir()):
            outputs.append("data")
        if answers.is_folder:
            target = folder / settings.base.model
            if target.resolve() != Path(answers.model).resolve():
                with replacing(target) as aside:
                    base.copy_files(Path(answers.model), aside)
            outputs.append(settings.base.model)
        shutil.copytree(TEMPLATES / "recipes", folder / "recipes", dirs_exist_ok=True)
        prefect = (TEMPLATES / "prefect.yaml").read_text(encoding="utf-8")
        write_text(folder / "prefect.yaml", prefect.replace("flows/", "flows.").replace(".py:", "."))
        write_text(folder / "prefect.toml", PREFECT)
        _append(folder / ".gitignore", IGNORED)
        _append(folder / ".dvcignore", DVCIGNORE)
        _versioned(folder, outputs)
        # Last: with these, the folder is a project.
        shutil.move(params, paths.params)
        code = _pipeline(folder / "dvc.yaml", settings.base.model if answers.is_folder else None)
        lock.write(folder / lock.NAME, code)
    languages = settings.languages
    return {
        "folder": str(folder),
        "model": settings.base.model,
        "languages": {
            "source": languages.source,
            "served": list(languages.served),
            "transfer": list(languages.transfer),
        },
        "recipes": list(answers.recipes),
        "lacks": lacks,
        "next": list(_next(lacks, folder, has_data)),
    }


def upgrade(paths: Paths) -> None:
    """Writes dvc.yaml and mlc.lock for the installed package; what its code changed runs again.

    Raises:
        MlcError: this is no project that ``mlc init`` made.
    """
    if not (paths.root / lock.NAME).exists():
        raise MlcError(f"there is no {lock.NAME} here: only a project that `mlc init` made has its code in a package")
    settings = load_settings(paths.params)
    model = settings.base.model if (paths.root / settings.base.model).is_dir() else None
    lock.write(paths.root / lock.NAME, _pipeline(paths.root / "dvc.yaml", model))
    print("dvc.yaml and mlc.lock are those of the installed package: `git diff` shows what changed")
