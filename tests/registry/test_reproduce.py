"""A registered version is made again from its commit, really, and nothing of the project's is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_pipeline import accept_anything, project, run  # noqa: F401 - the scaled-down project is a fixture

from mlc.files import sha256_folder


@pytest.mark.slow
def test_version_one_is_made_again_with_equal_weights_and_metrics(project: Path) -> None:  # noqa: F811
    accept_anything(project)
    run(project, "dvc", "repro", "register")
    registry = sha256_folder(project / "mlflow" / "artifacts")
    listed = run(project, "mlc", "registry", "list", "--json").stdout
    cache = sha256_folder(project / ".dvc" / "cache")

    again = project / "again"
    done = run(project, "mlc", "reproduce", "champion", "--into", str(again), "--json", check=False)
    result = json.loads(done.stdout)
    assert (result["equal"], result["differences"], done.returncode) == (True, [], 0)
    assert (again / "artifacts" / "gate" / "verdict.json").exists()
    assert not (again / "artifacts" / "registration.json").exists()
    assert sha256_folder(project / "mlflow" / "artifacts") == registry
    assert run(project, "mlc", "registry", "list", "--json").stdout == listed
    assert sha256_folder(project / ".dvc" / "cache") == cache
