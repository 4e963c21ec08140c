"""``mlc init``: a project for somebody's own model, languages and prompts.

Its files are those of this repository, packed into the wheel, with the answers written into them. The embedded world's
code is no part of it: code is the installed package, which mlc.lock pins (see mlc.lock's module).
"""

from __future__ import annotations

import filecmp
import logging
import shutil
import subprocess
import sys
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
from mlc.project.configure import TEMPLATES, changing_settings, merge, recipe_settings, write_over
from mlc.project.defaults import defaults
from mlc.project.devices import gpus
from mlc.prompts.changing import changing
from mlc.prompts.schema import SETS, languages_of
from mlc.provenance.code import LOCK, part
from mlc.settings import Settings, load_settings

# What the embedded world's settings have that only fits its own model; its judge too, for which there is GUARD.
OWN: dict[str, Any] = {"train": {"objective": {"layer": -1}}}
# Where there is a GPU to run it; elsewhere the wording of refusals has to do, and the verdict says so.
GUARD = {"name": "guard", "format": "qwen3guard", "model": "Qwen/Qwen3Guard-Gen-4B", "revision": None}
REFUSAL = {"name": "refusal"}
ONLY_REFUSALS = (
    "The refusal judge alone decides what is safe: it knows refusals by their wording, and nothing of harm. A reply"
    " that begins like a refusal and goes on to comply can pass"
)
# What makes a folder a project, in this order: without params.yaml no other command works in it.
MARKS = ("dvc.yaml", LOCK, "params.yaml")
TAKEN = ("data", "recipes", "artifacts", "mlflow")
IGNORED = """/.cache/
/.prefect/
/.venv/
/artifacts/
/dvc_plots/
.*.partial
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
    """What was set up, which settings follow from the base and why, what the prompt sets lack, what to be warned of,
    and the commands that come next."""

    folder: str
    model: str
    languages: ProjectLanguages
    recipes: list[str]
    settings: list[str]
    lacks: list[str]
    warnings: list[str]
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


def _params(answers: Answers, chosen: dict[str, Any], path: Path) -> Settings:
    """Writes params.yaml: the template's settings, then those ``chosen`` for the base, the recipes', the answers'."""
    lines = (TEMPLATES / "params.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    while lines[0].startswith("#"):
        lines.pop(0)
    path.write_text("# The settings of this project. recipes/ are overlays: `mlc configure NAME`.\n" + "".join(lines))
    values = deepcopy(OWN) | {"evaluate": {"judges": [GUARD if gpus() else REFUSAL]}}
    for over in (chosen, recipe_settings(answers.recipes), answers.settings):
        merge(values, over)
    if values["evaluate"]["judges"] == [REFUSAL]:
        gate = values.setdefault("gate", {})
        gate["unsafe_settings"] = list(dict.fromkeys([*gate.get("unsafe_settings", []), "only_refusal_judge"]))
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
            stage["params"].append({LOCK: list(dict.fromkeys(f"code.{part(dep)}" for dep in own))})
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
            todo = "`mlc translate` fills in (NLLB-200 is for non-commercial use alone)"
            lacks.append(f"{name}.jsonl has no prompt in {', '.join(missing)}: {todo}")
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
            # Where an interrupted init has left a repository without it, git would take DVC's cache.
            _append(folder / ".dvc" / ".gitignore", "/config.local\n/tmp\n/cache\n")
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


def _check_new(folder: Path) -> None:
    if (folder / "params.yaml").exists():
        raise MlcError(
            f"{folder / 'params.yaml'} exists: this is a project already; `mlc configure` changes its settings"
        )


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as aside:
        shutil.copyfile(source, aside)


def _is_copy(folder: Path, source: Path) -> bool:
    """Whether a folder holds the files of the model in ``source`` that are used, and nothing else."""
    names = sorted({file.name for pattern in base.PATTERNS for file in source.glob(pattern)})
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return there == names and all(filecmp.cmp(folder / name, source / name, shallow=False) for name in names)


@dataclass(frozen=True)
class _Plan:
    """What goes into a new project: made in ``scratch`` or copied, and held against what is there before."""

    folder: Path
    scratch: Path
    prompts: tuple[Path, ...]
    base: Path | None
    target: Path

    @classmethod
    def of(cls, folder: Path, scratch: Path, answers: Answers, settings: Settings) -> _Plan:
        source, model, target = answers.data, Path(answers.model), folder / settings.base.model
        copies = source is not None and source.resolve() != Paths(folder).data.resolve()
        moves = answers.is_folder and target.resolve() != model.resolve()
        return cls(
            folder,
            scratch,
            tuple(sorted(source.glob("*.jsonl"))) if copies and source else (),
            model if moves else None,
            target,
        )

    @property
    def made(self) -> list[tuple[Path, Path]]:
        """What init writes by itself: where it lies ready, and where it goes."""
        files = [path for path in sorted(self.scratch.rglob("*")) if path.is_file() and path.name not in MARKS]
        return [(path, self.folder / path.relative_to(self.scratch)) for path in files]

    def check(self) -> None:
        """Raises ``MlcError`` where something is there that is not what would be written, and that nothing may pass
        for."""
        for name in MARKS:
            path = self.folder / name
            if path.exists() and path.read_bytes() != (self.scratch / name).read_bytes():
                raise MlcError(
                    f"{path} exists, and is not what would be written: it is another project's, or was changed since"
                    " `mlc init` was interrupted. Move it away, then run the same command again"
                )
        for file in self.prompts:
            copy = Paths(self.folder).data / file.name
            if copy.exists() and not filecmp.cmp(copy, file, shallow=False):
                raise MlcError(
                    f"{copy} is there ({copy.stat().st_size:,} bytes), and is not {file} ({file.stat().st_size:,}):"
                    " move it away to have it copied, or leave out --data to keep it"
                )
        if self.base is None:
            return
        if self.target.name in TAKEN:
            raise MlcError(
                f"--model {self.base}: a project has a {self.target.name} of its own; rename the model's folder"
            )
        if self.target.exists() and not _is_copy(self.target, self.base):
            raise MlcError(f"{self.target} is there, and is not the model in {self.base}: move one of them away")

    def write(self) -> tuple[bool, list[Path]]:
        """Writes all but the marks: whether some of it was there already, and what is there in its place and stays."""
        data, there, stays = Paths(self.folder).data, False, []
        with changing(data):
            self.check()  # again: another command may have written since
            data.mkdir(exist_ok=True)
            for file in self.prompts:
                if (data / file.name).exists():
                    there = True
                else:
                    _copy(file, data / file.name)
        if self.base is not None and self.target.exists():
            there = True
        elif self.base is not None:
            with replacing(self.target) as aside:
                base.copy_files(self.base, aside)
        for ready, path in self.made:
            if not path.exists():
                _copy(ready, path)
            elif filecmp.cmp(ready, path, shallow=False):
                there = True
            else:
                stays.append(path)
        return there, stays


def run(folder: Path, answers: Answers) -> NewProject:
    """Sets up the project, and returns what it is and what is left to do. Files that are there stay.

    params.yaml, which makes the folder a project, comes last and everything whole: where this was interrupted, the same
    command completes it.

    Raises:
        MlcError: there is a project already, or an answer does not fit, or something else is where prompts, the model
            or the pipeline would go; nothing is written then.
    """
    _check_new(folder)
    if answers.is_folder:
        base.check_files(answers.model, Path(answers.model))
    else:
        base.check_pin(answers.model, answers.revision)
    with tempfile.TemporaryDirectory() as scratches:
        made, scratch = Path(scratches) / "settings", Path(scratches) / "project"
        made.mkdir()
        fitting = defaults(answers.model, answers.revision, answers.source, answers.data or folder / "data")
        settings = _params(answers, fitting.settings, made / "params.yaml")
        _copy(made / "params.yaml", scratch / "params.yaml")
        model = settings.base.model if answers.is_folder else None
        lock.write(scratch / LOCK, _pipeline(scratch / "dvc.yaml", model))
        shutil.copytree(TEMPLATES / "recipes", scratch / "recipes")
        prefect = (TEMPLATES / "prefect.yaml").read_text(encoding="utf-8")
        write_text(scratch / "prefect.yaml", prefect.replace("flows/", "flows.").replace(".py:", "."))
        write_text(scratch / "prefect.toml", PREFECT)
        lacks = _check_prompts(answers.data or folder / "data", settings)
        plan = _Plan.of(folder, scratch, answers, settings)
        plan.check()
        with changing_settings(folder):
            _check_new(folder)  # again: another `mlc init` may have been at work
            _append(folder / ".gitignore", IGNORED)
            _append(folder / ".dvcignore", DVCIGNORE)
            there, stays = plan.write()
            if there:
                print(f"completing what an earlier `mlc init` has left in {folder}", file=sys.stderr)
            for path in stays:
                print(f"{path} was there before, and stays as it is", file=sys.stderr)
            has_data = any(Paths(folder).data.iterdir())
            (folder / "dvc.yaml").unlink(missing_ok=True)  # ours, and DVC cannot read it without params.yaml
            _versioned(folder, [*(["data"] if has_data else []), *([model] if model else [])])
            for name in MARKS:
                _copy(scratch / name, folder / name)
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
        "settings": fitting.said,
        "lacks": lacks,
        "warnings": [ONLY_REFUSALS] if "only_refusal_judge" in settings.gate.unsafe_settings else [],
        "next": list(_next(lacks, folder, has_data)),
    }


def upgrade(paths: Paths) -> None:
    """Writes dvc.yaml and mlc.lock for the installed package; what its code changed runs again.

    Raises:
        MlcError: this is no project that ``mlc init`` made.
    """
    if not (paths.root / LOCK).exists():
        raise MlcError(f"there is no {LOCK} here: only a project that `mlc init` made has its code in a package")
    with changing_settings(paths.root):
        settings = load_settings(paths.params)
        model = settings.base.model if (paths.root / settings.base.model).is_dir() else None
        lock.write(paths.root / LOCK, _pipeline(paths.root / "dvc.yaml", model))
    print("dvc.yaml and mlc.lock are those of the installed package: `git diff` shows what changed")
