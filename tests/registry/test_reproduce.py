"""A registered version is made again from its commit, really, and nothing of the project's is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_pipeline import accept_anything, project, run  # noqa: F401 - the scaled-down project is a fixture

from mlc.embedded import prompts
from mlc.files import sha256_folder
from mlc.prompts.schema import write_prompts


def commit(project: Path) -> str:  # noqa: F811
    return run(project, "git", "rev-parse", "HEAD").stdout.strip()


@pytest.mark.slow
def test_a_version_evaluated_later_than_trained_is_made_again_with_equal_weights_and_metrics(
    project: Path,  # noqa: F811
) -> None:
    accept_anything(project)
    run(project, "dvc", "repro", "select")
    trained = commit(project)
    write_prompts(project / "data" / "evaluation.jsonl", prompts.rows("evaluation")[:26])
    run(project, "dvc", "add", "-q", "data")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "more prompts")
    run(project, "dvc", "repro", "register")
    lineage = json.loads(run(project, "mlc", "registry", "lineage", "1", "--json").stdout)
    assert (lineage["commit"], lineage["evaluation"]["commit"]) == (trained, commit(project))
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
