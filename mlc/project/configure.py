"""``mlc configure``: a recipe's settings over those of params.yaml."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from mlc.errors import MlcError
from mlc.files import locked, replacing
from mlc.settings import read_yaml, validated

TEMPLATES = Path(__file__).parent
_UNQUOTED = re.compile(r"[\w./+-]+", re.ASCII)


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
        merge(settings, _mapping(read_yaml(find_recipe(name)), name))
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
        write_over(path, _mapping(read_yaml(recipe, _round_trip()), str(recipe)), str(recipe))


def write_over(path: Path, values: Mapping[str, Any], source: str) -> None:
    """Writes settings over those in params.yaml, as ``overlay`` does; ``source`` says in errors where they are from.

    Raises:
        MlcError: params.yaml cannot be read, or the result is not valid; params.yaml is then as it was.
    """
    yaml = _round_trip()
    content = _mapping(read_yaml(path, yaml), str(path))
    merge(content, _styled(values))
    validated(content, f"{path} with {source}")
    _quote(content)
    text = io.StringIO()
    yaml.dump(content, text)
    if json.dumps(YAML(typ="safe").load(text.getvalue())) != json.dumps(content):
        raise MlcError(f"{path} with {source} cannot be written so that DVC reads it: put its unusual texts in quotes")
    with replacing(path) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")


def _round_trip() -> YAML:
    """Keeps comments, the order and quotes."""
    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    return yaml


def _mapping(content: Any, name: str) -> Any:
    if not isinstance(content, dict):
        raise MlcError(f"{name} holds no settings: names and values, such as `train: {{max_steps: 100}}`")
    return content


def _styled(value: Any) -> Any:
    """Lists of numbers and words on one line, as in the template: ruamel.yaml breaks comments otherwise."""
    if isinstance(value, CommentedMap | CommentedSeq):  # as the recipe has it
        return value
    if isinstance(value, dict):
        return CommentedMap({key: _styled(item) for key, item in value.items()})
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(map(_styled, value))
    if not any(isinstance(item, dict | list) for item in value):
        sequence.fa.set_flow_style()
    return sequence


def _quote(value: Any, in_brackets: bool = False) -> Any:
    """Puts texts in quotes that libyaml would not read in brackets without them."""
    if isinstance(value, CommentedMap | CommentedSeq):
        in_brackets = in_brackets or bool(value.fa.flow_style())
        for key, item in list(value.items() if isinstance(value, CommentedMap) else enumerate(value)):
            value[key] = _quote(item, in_brackets)
    elif isinstance(value, str) and in_brackets and not _UNQUOTED.fullmatch(value):
        return DoubleQuotedScalarString(value)
    return value
