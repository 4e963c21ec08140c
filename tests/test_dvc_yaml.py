"""dvc.yaml says what the stages read and write: names that do not exist would only show when a stage runs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import grimp
import mlflow
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
YAML_1_2 = YAML(typ="safe", pure=True)
PARAMS: dict[str, Any] = YAML_1_2.load(ROOT / "params.yaml")
PIPELINE: dict[str, Any] = YAML_1_2.load(ROOT / "dvc.yaml")
STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]
TRACKED = {path.stem for path in ROOT.glob("*.dvc")} | {"data", "embedded-base"}


def _param(key: str) -> Any:
    value: Any = PARAMS
    for part in key.split("."):
        value = value[part]
    return value


def _paths(stage: dict[str, Any], *kinds: str) -> list[str]:
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return [re.sub(r"\$\{(.+?)\}", lambda match: str(_param(match[1])), name) for name in names]


def _outputs(stage: dict[str, Any]) -> list[str]:
    return _paths(stage, "outs", "metrics", "plots")


@pytest.mark.parametrize("name", STAGES)
def test_params_exist(name: str) -> None:
    for key in STAGES[name]["params"]:
        _param(key)


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_exist_or_are_made_by_another_stage(name: str) -> None:
    outputs = {path for other, stage in STAGES.items() if other != name for path in _outputs(stage)} | TRACKED
    for path in _paths(STAGES[name], "deps"):
        inside_an_output = outputs.intersection(map(str, [PurePosixPath(path), *PurePosixPath(path).parents]))
        assert inside_an_output or (ROOT / path).exists(), path


@pytest.mark.parametrize("name", STAGES)
def test_everything_is_written_below_artifacts(name: str) -> None:
    assert all(path.startswith("artifacts/") for path in _outputs(STAGES[name]))


@pytest.mark.parametrize("plot", PIPELINE["plots"], ids=lambda plot: next(iter(plot)))
def test_what_is_drawn_is_made_by_a_stage(plot: dict[str, Any]) -> None:
    ((_, drawn),) = plot.items()
    files = {file for axis in ("x", "y") if isinstance(drawn[axis], dict) for file in drawn[axis]}
    assert files and files <= {path for stage in STAGES.values() for path in _outputs(stage)}


def test_what_happened_to_the_registry_is_never_restored_from_a_cache() -> None:
    """Restored, `registration.json` would tell of a promotion that was undone since, without undoing that."""
    assert STAGES["register"]["outs"] == [{"artifacts/registration.json": {"cache": False, "persist": True}}]


def test_the_mlflow_folder_does_not_shadow_the_library() -> None:
    assert "site-packages" in str(mlflow.__file__)
    assert (ROOT / "mlflow").is_dir()
    assert not list((ROOT / "mlflow").rglob("*.py"))


# The module that a stage's command runs, and what it starts as a process of its own, or the command runs beside it.
STARTED = {"mlc.training.stage": {"mlc.training.launch"}, "mlc.gates.power": {"mlc.gates.licences"}}
ENTRY = {
    "validate": "mlc.quality.stage",
    "base": "mlc.models.stage",
    "trusted_languages": "mlc.gates.trusted_languages",
    "plan": "mlc.gates.power",
    "train": "mlc.training.stage",
    "evaluate_tuning": "mlc.evaluation.tuning",
    "select": "mlc.gates.select",
    "evaluate_base": "mlc.evaluation.stage",
    "evaluate_candidate": "mlc.evaluation.stage",
    "metrics": "mlc.evaluation.metrics_stage",
    "calibrate": "mlc.evaluation.judge_check",
    "diagnose": "mlc.evaluation.diagnostics",
    "tasks": "mlc.evaluation.lm_eval_tasks",
    "gate": "mlc.gates.stage",
    "register": "mlc.registry.stage",
    "report": "mlc.report.stage",
}


class Ignored(NamedTuple):
    """Why a module decides no result of a stage that imports it, and the stages for which it does."""

    why: str
    decides: tuple[str, ...] = ()


WRITES_TEXT = ("validate", "select", "gate", "register", "report")
IGNORED = {
    "mlc.errors": Ignored("an error ends a stage without a result"),
    "mlc.files": Ignored("it reads and writes whole files, whatever is in them"),
    "mlc.git": Ignored("what it says is written down, and decided about by register", ("register",)),
    "mlc.models.architecture": Ignored("it refuses a base, and changes nothing about one that it lets pass"),
    "mlc.models.manifest": Ignored(
        "a record of what was made, whose older versions can be read", ("select", "gate", "register", "report")
    ),
    "mlc.paths": Ignored("what a stage reads and writes is declared"),
    "mlc.progress": Ignored("it draws progress bars"),
    "mlc.prompts.changing": Ignored("it keeps commands that change prompts from each other"),
    "mlc.prompts.schema": Ignored("the rows are read as validate wrote them", ("validate",)),
    "mlc.provenance.code": Ignored(
        "what it says is written down, and decided about by register", ("register", "report")
    ),
    "mlc.settings": Ignored("the values are declared, as parameters"),
    "mlc.text": Ignored("how numbers and texts look on the screen", WRITES_TEXT),
    "mlc.tracking": Ignored("MLflow's records are no outputs", ("register",)),
}
# What modules read of the package beside code.
DATA = {
    "mlc.compare.page": ("compare/comparison.html",),
    "mlc.embedded.world": ("embedded/world/*.yaml",),
    "mlc.evaluation.labelled": ("evaluation/labelled/*.jsonl",),
    "mlc.judges.refusal": ("judges/refusals/*.yaml",),
    "mlc.project.configure": ("project/*.yaml", "project/recipes"),
    "mlc.quality.datacard": ("quality/datacard.md.jinja",),
    "mlc.quality.pair_checks": ("quality/chatter.yaml",),
    "mlc.registry.model_card": ("registry/model_card.md.jinja",),
    "mlc.registry.package": ("registry/pyfunc_model.py", "models/inference.py"),
    "mlc.report.page": ("report/*.html", "report/*.css", "report/*.js"),
}


@cache
def imports() -> grimp.ImportGraph:
    """Every import of the package, those within functions too."""
    return grimp.build_graph("mlc", cache_dir=None)


def deciding(stage: str) -> set[str]:
    """The modules that decide a stage's result: what its command imports, but for what is ignored for that stage."""
    modules: set[str] = set()
    todo = {ENTRY[stage]}
    while todo:
        module = todo.pop()
        if module in modules or (module in IGNORED and stage not in IGNORED[module].decides):
            continue
        modules.add(module)
        todo |= imports().find_modules_directly_imported_by(module) | STARTED.get(module, set())
    return modules


def files_of(module: str) -> set[Path]:
    """A module's file, the files that it reads, and the code of the packages around it."""
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    files = {file if file.exists() else path / "__init__.py"}
    files |= {folder / "__init__.py" for folder in path.parents if (ROOT / "mlc") in folder.parents}
    for pattern in DATA.get(module, ()):
        files |= set((ROOT / "mlc").glob(pattern))
    return {file for file in files if not only_a_docstring(file)}


def only_a_docstring(file: Path) -> bool:
    return file.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


def declared(stage: str) -> set[Path]:
    """The files of code that dvc.yaml names for a stage, one by one or by their folder."""
    code = [ROOT / path for path in _paths(STAGES[stage], "deps") if path.startswith("mlc/")]
    files = {file for path in code for file in (path.rglob("*") if path.is_dir() else [path])}
    return {file for file in files if file.is_file() and "__pycache__" not in file.parts and not only_a_docstring(file)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_the_code_that_decides_its_result_and_no_other(stage: str) -> None:
    needed = {file for module in deciding(stage) for file in files_of(module)}
    missing, superfluous = needed - declared(stage), declared(stage) - needed
    assert not missing, sorted(str(file.relative_to(ROOT)) for file in missing)
    assert not superfluous, sorted(str(file.relative_to(ROOT)) for file in superfluous)


def test_every_stage_has_its_command_and_every_file_of_data_its_reader() -> None:
    assert ENTRY.keys() == STAGES.keys()
    commands = {stage: imports().find_modules_that_directly_import(module) for stage, module in ENTRY.items()}
    assert not [stage for stage, importers in commands.items() if not any(m.startswith("mlc.cli") for m in importers)]
    read = {file for patterns in DATA.values() for pattern in patterns for file in (ROOT / "mlc").glob(pattern)}
    data = {f for f in (ROOT / "mlc").rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc", ".typed")}
    assert not data - read


def test_work_on_what_only_shows_or_measures_makes_no_reply_again() -> None:
    for stage in ("evaluate_base", "evaluate_candidate", "evaluate_tuning", "train"):
        others = ("gates/explain.py", "evaluation/agreement.py", "evaluation/lm_eval_tasks.py", "evaluation/labelled")
        assert not [f for f in declared(stage) for other in others if f.is_relative_to(ROOT / "mlc" / other)], stage
