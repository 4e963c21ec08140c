"""``mlc configure``: a recipe's settings over those of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.files import locked, replacing
from mlc.settings import read_yaml, validated

TEMPLATES = Path(__file__).parent


def shipped_recipes() -> list[str]:
    return sorted(path.stem for path in (TEMPLATES / "recipes").glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """A recipe's file: the one of that path, or the shipped one of that name.

    Raises:
        MlcError: there is neither.
    """
    for path in (Path(name), TEMPLATES / "recipes" / f"{name}.yaml"):
        if path.is_file():
            return path
    raise MlcError(f"there is no recipe {name}: give a file, or one of {', '.join(shipped_recipes())}")


def recipe_settings(recipes: Sequence[str]) -> dict[str, Any]:
    """What these recipes say together; of two that say something else, the later one's."""
    settings: dict[str, Any] = {}
    for name in recipes:
        merge(settings, YAML(typ="safe", pure=True).load(find_recipe(name).read_text(encoding="utf-8")))
    return settings


def merge(into: Any, values: Mapping[str, Any]) -> None:
    """Sets nested values over those that are there; what ``values`` does not hold stays."""
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def changing_settings(root: Path) -> AbstractContextManager[None]:
    """Holds a project's params.yaml, dvc.yaml and mlc.lock against other commands, which wait and say so."""
    return locked(
        root / ".cache" / "mlc" / "settings.lock", f"settings: another mlc is changing those of {root}; waiting for it"
    )


def overlay(path: Path, recipe: Path) -> None:
    """Writes a recipe's settings over those in params.yaml, whose other settings and comments stay.

    Raises:
        MlcError: either file cannot be read, or the result is not valid; params.yaml is then as it was.
    """
    with changing_settings(path.parent):
        yaml = YAML()
        yaml.width = 120
        content = read_yaml(path, yaml)
        merge(content, read_yaml(recipe, yaml))
        validated(content, f"{path} with {recipe}")
        with replacing(path) as aside:
            yaml.dump(content, aside)
