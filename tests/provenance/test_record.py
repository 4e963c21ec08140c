"""What a record says of the code, the settings and the files of a stage, and of what changes while it runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc import git
from mlc.errors import MlcError
from mlc.files import sha256, write_text
from mlc.paths import Paths
from mlc.provenance import code
from mlc.provenance.record import StageRecord, file_hash, recorded
from mlc.provenance.stages import read_stages

DVC_YAML = """stages:
  train:
    cmd: mlc train
    params:
      - train.seed
      - evaluate.prompts
      - mlc.lock: [code.mlc/files]
    deps:
      - artifacts/prompts/${evaluate.prompts}.jsonl
      - mlc/training/objectives.py
    outs:
      - artifacts/provenance/train.json
      - artifacts/model: {cache: false}
    metrics: [artifacts/metrics.json]
  other:
    cmd: mlc other
"""


def run(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A committed project with its own code, which counts as imported."""
    for name, text in {
        ".gitignore": "/artifacts/\n",
        "params.yaml": "train: {seed: 1}\nevaluate: {prompts: tuning}\n",
        "dvc.yaml": DVC_YAML,
        "mlc/__init__.py": "",
        "mlc/files.py": "",
        "mlc/training/objectives.py": "",
        "artifacts/prompts/tuning.jsonl": "prompts",
    }.items():
        write_text(tmp_path / name, text)
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "mlc")
    run(tmp_path, "init", "--quiet")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "--quiet", "--message", "all")
    return Paths(tmp_path)


def record(paths: Paths, meanwhile: Callable[[], object] = lambda: None) -> StageRecord:
    with recorded("train", paths):
        write_text(paths.root / "artifacts/model/weights", "weights")
        meanwhile()
    return StageRecord.read(paths.provenance("train"), "mlc train")


def test_a_record_holds_what_dvc_yaml_names(paths: Paths) -> None:
    taken = record(paths)
    assert taken.commit == run(paths.root, "rev-parse", "HEAD").strip()
    assert (taken.uncommitted, taken.changed) == ([], [])
    assert taken.settings == {"train.seed": 1, "evaluate.prompts": "tuning"}
    assert taken.inputs == {"artifacts/prompts/tuning.jsonl": sha256(paths.prompts / "tuning.jsonl")}
    model = file_hash(paths.root / "artifacts/model")
    assert taken.outputs == {"artifacts/model": model, "artifacts/metrics.json": None}
    assert taken.code == code.part_hashes(["mlc/training/objectives", "mlc/files"])
    assert taken.package == code.package_hash()


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("params.yaml", "params.yaml"),
        ("dvc.yaml", "dvc.yaml"),
        ("mlc/training/objectives.py", "mlc/training/objectives.py"),
        ("mlc/new.py", "mlc/new.py"),
        ("data.dvc", "data.dvc"),
    ],
)
def test_what_is_not_committed_is_named(paths: Paths, name: str, seen: str) -> None:
    path = paths.root / name
    write_text(path, f"{path.read_text() if path.exists() else ''}\n# changed\n")
    assert record(paths).uncommitted == [seen]


def test_files_of_that_name_elsewhere_do_not_count(paths: Paths) -> None:
    """A version in the local store holds the data.dvc that it is of."""
    write_text(paths.root / ".git/info/exclude", "/mlflow/\n")
    write_text(paths.root / "mlflow/artifacts/evidence/data.dvc", "")
    assert record(paths).uncommitted == []


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_what_git_is_told_not_to_look_at_counts_as_changed(paths: Paths, flag: str) -> None:
    run(paths.root, "update-index", flag, "params.yaml")
    assert record(paths).uncommitted == ["params.yaml"]


def test_code_that_changes_while_a_stage_runs_is_named(paths: Paths) -> None:
    file = paths.root / "mlc/training/objectives.py"
    assert record(paths, lambda: write_text(file, "changed")).changed == ["mlc"]

    def commit() -> None:
        write_text(file, "changed again")
        run(paths.root, "commit", "--all", "--quiet", "--message", "meanwhile")

    run(paths.root, "commit", "--all", "--quiet", "--message", "changed")
    before = run(paths.root, "rev-parse", "HEAD").strip()
    taken = record(paths, commit)
    assert (taken.commit, taken.changed) == (before, ["mlc"])


def test_a_commit_of_something_else_while_a_stage_runs_changes_nothing(paths: Paths) -> None:
    def commit() -> None:
        write_text(paths.root / "README.md", "text")
        run(paths.root, "add", ".")
        run(paths.root, "commit", "--quiet", "--message", "meanwhile")

    before = run(paths.root, "rev-parse", "HEAD").strip()
    taken = record(paths, commit)
    assert (taken.commit, taken.uncommitted, taken.changed) == (before, [], [])


def test_an_input_that_changes_while_a_stage_runs_is_named(paths: Paths) -> None:
    file = paths.prompts / "tuning.jsonl"
    assert record(paths, lambda: write_text(file, "others")).changed == ["artifacts/prompts/tuning.jsonl"]
    # Written again with the same content, such as by a checkout, it is the same.
    assert record(paths, lambda: write_text(file, "others")).changed == []


def test_a_stage_that_fails_leaves_no_record(paths: Paths) -> None:
    record(paths)
    with pytest.raises(KeyboardInterrupt), recorded("train", paths):
        raise KeyboardInterrupt
    assert not paths.provenance("train").exists()


def test_a_stage_without_a_record_in_dvc_yaml_has_none(paths: Paths) -> None:
    with recorded("other", paths):
        pass
    (paths.root / "dvc.yaml").unlink()
    with recorded("train", paths):
        pass
    assert not (paths.artifacts / "provenance").exists()


def test_a_dvc_yaml_that_holds_no_stages_is_said_to_be(paths: Paths) -> None:
    write_text(paths.root / "dvc.yaml", "stages: [train]\n")
    with pytest.raises(MlcError, match=r"dvc\.yaml holds no stages that can be read"):
        read_stages(paths.root)


def test_code_from_elsewhere_is_the_projects_or_is_named(
    paths: Paths, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("site") / "mlc"
    shutil.copytree(paths.root / "mlc", elsewhere)
    monkeypatch.setattr(code, "PACKAGE", elsewhere)
    assert code.state(paths.root).changed == []
    write_text(elsewhere / "files.py", "changed")
    (changed,) = code.state(paths.root).changed
    assert "imported from" in changed and "files.py" in changed


def test_a_project_without_code_needs_its_lock(paths: Paths) -> None:
    run(paths.root, "rm", "-r", "--quiet", "mlc")
    run(paths.root, "commit", "--quiet", "--message", "no code")
    shutil.rmtree(paths.root / "mlc", ignore_errors=True)
    assert code.state(paths.root).changed == ["mlc.lock (missing)"]
    write_text(paths.root / "mlc.lock", "version: 1\n")
    assert code.state(paths.root).changed == ["mlc.lock"]
    run(paths.root, "add", ".")
    run(paths.root, "commit", "--quiet", "--message", "lock")
    assert code.state(paths.root).changed == []


def test_commits_are_kept_when_their_branch_is_gone(paths: Paths) -> None:
    run(paths.root, "checkout", "--quiet", "-b", "try")
    run(paths.root, "commit", "--quiet", "--allow-empty", "--message", "lost")
    lost = run(paths.root, "rev-parse", "HEAD").strip()
    git.keep_commits(paths.root, "a%20b/1", [lost, "0" * 40])
    run(paths.root, "checkout", "--quiet", "-")
    run(paths.root, "branch", "--quiet", "-D", "try")
    run(paths.root, "reflog", "expire", "--expire=now", "--all")
    run(paths.root, "gc", "--quiet", "--prune=now")
    assert git.is_commit(paths.root, lost)
