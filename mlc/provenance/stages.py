"""The stages of dvc.yaml: what each reads, what it writes, and which settings and code decide its result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.provenance.code import LOCK, part
from mlc.settings import read_yaml


class Stage(NamedTuple):
    """A stage: its command; the dotted names of its ``settings``; the ``inputs`` and ``outputs``, paths relative to the
    project; the parts of the package that decide its result (``code``)."""

    name: str
    command: str
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    code: tuple[str, ...]

    @property
    def has_record(self) -> bool:
        """Whether the record of what it ran with is among its outputs."""
        return self._record in self.outputs

    @property
    def results(self) -> tuple[str, ...]:
        """The outputs but for that record."""
        return tuple(output for output in self.outputs if output != self._record)

    @property
    def _record(self) -> str:
        return Paths().provenance(self.name).as_posix()


def setting(params: Any, name: str) -> JsonValue:
    """The value of a setting by its dotted name; null where there is none."""
    for key in name.split("."):
        params = params.get(key) if isinstance(params, Mapping) else None
    return params  # type: ignore[no-any-return]


def read_stages(root: Path) -> tuple[dict[str, Stage], Any]:
    """The stages of the project's dvc.yaml by name, and the content of its params.yaml.

    Raises:
        MlcError: one of them is missing or broken.
    """
    params, path = read_yaml(root / "params.yaml"), root / "dvc.yaml"
    content = read_yaml(path)
    try:
        return {name: _stage(name, stage, params) for name, stage in content["stages"].items()}, params
    except (AttributeError, KeyError, TypeError):
        raise MlcError(f"{path} holds no stages that can be read: bring back the committed one") from None


def _stage(name: str, stage: Mapping[str, Any], params: Any) -> Stage:
    def filled_in(entry: str | Mapping[str, Any]) -> str:
        path = entry if isinstance(entry, str) else next(iter(entry))
        return re.sub(r"\$\{(.+?)\}", lambda found: str(setting(params, found[1])), path)

    depends = [filled_in(entry) for entry in stage.get("deps", ())]
    settings = [entry for entry in stage.get("params", ()) if isinstance(entry, str)]
    locked = [key for entry in stage.get("params", ()) if isinstance(entry, Mapping) for key in entry.get(LOCK, ())]
    code = [part(path) for path in depends if path.startswith("mlc/")]
    code += [key.removeprefix("code.") for key in locked]
    written = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())]
    return Stage(
        name=name,
        command=stage["cmd"],
        settings=tuple(settings),
        inputs=tuple(path for path in depends if not path.startswith("mlc/")),
        outputs=tuple(filled_in(entry) for entry in written),
        code=tuple(dict.fromkeys(code)),
    )
