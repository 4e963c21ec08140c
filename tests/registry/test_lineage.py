"""A version's origin is shown whole, and what differs from it is named."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import records
from typer.testing import CliRunner
from versions import LANGUAGES, NAME, Registry, settings

from mlc.cli import app
from mlc.errors import MlcError
from mlc.files import write_json
from mlc.registry.lineage import lineage
from mlc.registry.reproduce import Results, differences, results
from mlc.registry.verify import Evidence


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Registry(tmp_path, store)
    registry.promoted(registry.add())
    return registry


def test_lineage_names_everything_that_made_a_version(registry: Registry) -> None:
    origin = lineage(registry.paths, NAME, "champion")
    assert (origin["version"], origin["aliases"]) == ("1", ["candidate", "champion"])
    assert origin["commit"] == f"{1:040x}"
    assert origin["data"] == {"data.dvc": "d" * 32, "prompts": "e" * 64}
    assert origin["parameters"]["languages"]["served"] == list(LANGUAGES.served)
    assert origin["parameters"]["train"]["seed"] == 1
    assert origin["runs"] == [registry.run_id]
    assert origin["gate"]["passed"] and origin["verdict"] and origin["manifest"]
    assert any(origin["commit"] in command for command in origin["rebuild"])
    assert [entry["alias"] for entry in origin["ledger"]] == ["candidate", "champion"]
    with pytest.raises(MlcError, match="by-hand has no version 9"):
        lineage(registry.paths, NAME, "9")
    with pytest.raises(MlcError, match="by-hand has no previous"):
        lineage(registry.paths, NAME, "previous")


def test_lineage_lists_licences_and_says_which_are_unknown(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lineage(registry.paths, NAME, "champion")["licences"] == []
    path = registry.file("1", "evidence/verdict.json")
    licences = [
        {"kind": "rows", "name": "a set", "licence": "CC-BY-NC-4.0", "texts": {"alignment": 900}},
        {"kind": "translator", "name": "a translator", "licence": None, "texts": {"alignment": 70}},
        {"kind": "base", "name": "a base", "licence": None, "texts": {}},
    ]
    content = json.loads(path.read_text())
    gate = content["gate"] | {"licence_of": {"a base": "MIT"}}
    write_json(path, content | {"schema_version": 3, "licences": licences, "gate": gate})
    found = lineage(registry.paths, NAME, "champion")["licences"]
    assert found == [*licences[:2], licences[2] | {"licence": "MIT"}]
    monkeypatch.setattr("mlc.cli.registry.project", lambda: (settings(), registry.paths))
    printed = CliRunner().invoke(app, ["registry", "lineage", "champion"]).output
    assert "the rows of a set are under CC-BY-NC-4.0 (900 in alignment)" in printed
    assert "the licence of the translations by a translator is unknown (70 in alignment)" in printed
    assert "the base a base is under MIT" in printed


def changed(then: Results, part: str, *path: str, value: Any) -> Results:
    """The same results, but for one value of one of their files."""
    file = getattr(then, part)
    content = copy.deepcopy(file.content())
    *folder, last = path
    place = content
    for key in folder:
        place = place[key]
    place[last] = value
    return then._replace(**{part: type(file).model_validate_json(json.dumps(content))})


def test_each_difference_of_a_version_made_again_is_named(registry: Registry) -> None:
    then = results(Evidence(registry.file("1", "evidence")))
    assert differences(then, results(Evidence(registry.file("1", "evidence")))) == []
    for path, value, prefix in (
        (("manifest", "files", "model.safetensors"), "0", "model: changed: model.safetensors"),
        (("manifest", "data", "prompts"), "0", "data.prompts: data.prompts: "),
        (("manifest", "parameters", "train", "seed"), 7, "parameters: parameters.train.seed: 1 -> 7"),
        (
            ("metrics", "languages", "es", "safe_rate", "value"),
            0.5,
            "metrics: languages.es.safe_rate.value: 1.0 -> 0.5",
        ),
        (("base_metrics", "languages", "es", "safe_rate", "n"), 1, "base metrics: languages.es.safe_rate.n: 25 -> 1"),
        (("verdict", "passed"), False, "verdict: passed True -> False"),
    ):
        (difference,) = differences(then, changed(then, *path, value=value))
        assert difference.startswith(prefix)
    # The commit is the one that is checked out, and the pointer is of the evaluation's prompts, too.
    assert differences(then, changed(then, "manifest", "git", "commit", value="0")) == []
    assert differences(then, changed(then, "manifest", "data", "data.dvc", value="0")) == []
    # Other libraries explain a difference, and are none.
    assert differences(then, changed(then, "manifest", "libraries", value={"torch": "3"})) == []


def test_what_is_missing_is_said(registry: Registry) -> None:
    write_json(registry.file("1", "evidence/manifest.json"), records.manifest())
    registry.file("1", "evidence/verdict.json").unlink()
    with pytest.raises(MlcError, match=r"verdict\.json does not exist"):
        lineage(registry.paths, NAME, "1")


def test_a_version_is_made_again_with_the_package_that_the_lock_of_its_commit_pins(registry: Registry) -> None:
    """Not with that of the present lock, nor with the one that trained it: the verdict may be of a later one."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        command = ["git", "-C", str(registry.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def pin(version: str) -> str:
        (registry.root / "mlc.lock").write_text(f"# by mlc\nversion: {version}\ncode: {{}}\n")
        git("commit", "--quiet", "--all", "--message", version)
        return git("rev-parse", "HEAD")

    def installed() -> str:
        return next(c for c in lineage(registry.paths, NAME, "1")["rebuild"] if "pip install" in c).split("install ")[1]

    path = registry.file("1", "evidence/manifest.json")
    content = json.loads(path.read_text())
    content["libraries"]["mlc-pipeline"] = "0.0.7"
    content["git"]["commit"] = pin("0.2.0")
    write_json(path, content)
    pin("0.3.0")
    assert installed() == "mlc-pipeline==0.2.0"
    content["git"]["commit"] = "0" * 40  # gone: what is locked now is the best that is known
    write_json(path, content)
    assert installed() == "mlc-pipeline==0.3.0"
    (registry.root / "mlc.lock").unlink()
    assert installed() == "mlc-pipeline==0.0.7"
    (registry.root / "pyproject.toml").touch()  # a copy of this repository has its own code
    assert installed() == "--constraint constraints.txt ."
