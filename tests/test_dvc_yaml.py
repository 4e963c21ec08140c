"""dvc.yaml says what the stages read and write: names that do not exist would only show when a stage runs."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

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
    return [re.sub(r"\$\{(.+?)\}", lambda found: str(_param(found[1])), name) for name in names]


def _outputs(stage: dict[str, Any]) -> list[str]:
    return _paths(stage, "outs", "metrics", "plots")


@pytest.mark.parametrize("name", STAGES)
def test_params_exist(name: str) -> None:
    for key in STAGES[name]["params"]:
        _param(key)


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_exist_or_are_made_by_another_stage(name: str) -> None:
    made = {path for other, stage in STAGES.items() if other != name for path in _outputs(stage)} | TRACKED
    for path in _paths(STAGES[name], "deps"):
        inside_what_is_made = made.intersection(map(str, [PurePosixPath(path), *PurePosixPath(path).parents]))
        assert inside_what_is_made or (ROOT / path).exists(), path


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
