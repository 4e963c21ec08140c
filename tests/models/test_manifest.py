"""The manifest against a real repository and real files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mlc.errors import MlcError
from mlc.files import sha256, sha256_json
from mlc.git import GitState, state
from mlc.models import manifest
from mlc.models.manifest import Manifest
from mlc.paths import Paths
from mlc.settings import load_settings

SETTINGS = load_settings(Path("params.yaml"))
TRAINED_ON = manifest.TrainedOn(
    max_length=256,
    rows={"harmful": manifest.Fitting(used=9, left_out=1, longest=300)},
    variants={"hi": manifest.Fitting(used=7, left_out=2, longest=280)},
)


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A committed project with a trained model."""
    for name, text in {
        ".gitignore": "/artifacts/\n",
        "mlc/code.py": "",
        "dvc.lock": "lock",
        "data.dvc": "outs:\n- md5: 0123abcd.dir\n  path: data\n",
        "artifacts/model/model.safetensors": "weights",
        "artifacts/model/tokenizer/tokenizer.json": "{}",
        "artifacts/base/model.safetensors": "base",
        "artifacts/prompts/alignment.jsonl": "{}\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return Paths(tmp_path)


def write(paths: Paths) -> Manifest:
    return manifest.write(
        paths.model,
        languages=SETTINGS.languages,
        train=SETTINGS.train,
        base_model="embedded-base",
        base_revision=None,
        paths=paths,
        git=state(paths.root),
        trained_on=TRAINED_ON,
    )


def test_it_holds_everything_the_model_was_made_from(paths: Paths) -> None:
    model_manifest = write(paths)
    assert model_manifest == Manifest.of(paths.model) == manifest.verify(paths.model)
    assert set(model_manifest.files) == {"model.safetensors", "tokenizer/tokenizer.json"}
    assert model_manifest.base.model_dump() == {
        "model": "embedded-base",
        "revision": None,
        "files": {"model.safetensors": sha256(paths.base / "model.safetensors")},
        "template_arguments": {},
    }
    written = model_manifest.content()
    assert written["data"] == {"data.dvc": "0123abcd.dir", "prompts": sha256(paths.prompts / "alignment.jsonl")}
    assert model_manifest.dvc_lock == sha256(paths.root / "dvc.lock")
    head = git(paths.root, "rev-parse", "HEAD").strip()
    assert written["git"] == {"commit": head, "dirty": False, "changed": []}
    assert written["parameters"]["train"]["objective"]["name"] == SETTINGS.train.objective.name
    assert tuple(model_manifest.parameters.languages.served) == SETTINGS.languages.served
    assert model_manifest.trained_on == TRAINED_ON
    assert TRAINED_ON.text == "9 of 10 harmful rows fit max_length 256; variants left out: 2 in hi"
    assert set(model_manifest.libraries) == {"torch", "transformers", "trl", "peft", "datasets", "mlc-pipeline"}


def test_its_digest_is_the_same_for_the_same_inputs_only(paths: Paths) -> None:
    digest = write(paths).digest
    assert write(paths).digest == digest
    assert sha256_json(json.loads((paths.model / manifest.NAME).read_text())) == digest
    (paths.prompts / "alignment.jsonl").write_text("{} \n")
    assert write(paths).digest != digest


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        ({"mlc/code.py": "changed"}, ["mlc/code.py"]),
        ({"mlc/new.py": ""}, ["mlc/new.py"]),
        ({"flows/new.py": "", "data.dvc": "outs: [{md5: other}]"}, ["data.dvc", "flows/new.py"]),
        ({"dvc.lock": "rewritten by every run"}, []),
        ({"notes.txt": "untracked, and no code"}, []),
    ],
)
def test_what_makes_the_tree_dirty(paths: Paths, change: dict[str, str], dirty: list[str]) -> None:
    for name, text in change.items():
        (paths.root / name).parent.mkdir(exist_ok=True)
        (paths.root / name).write_text(text)
    tree = write(paths).git
    assert (tree.dirty, tree.changed) == (bool(dirty), dirty)


def test_staged_and_deleted_files_are_changes_and_touched_ones_are_not(paths: Paths) -> None:
    (paths.root / "data.dvc").touch()
    assert not state(paths.root).dirty
    (paths.root / "mlc" / "staged.py").write_text("")
    git(paths.root, "add", "mlc/staged.py")
    (paths.root / "mlc" / "code.py").unlink()
    assert state(paths.root).changed == ["mlc/code.py", "mlc/staged.py"]


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert state(tmp_path) == GitState(commit=None, dirty=False, changed=[])
    git(tmp_path, "init", "--quiet")
    assert state(tmp_path).commit is None


def test_without_dvc_there_are_no_hashes_of_it(paths: Paths) -> None:
    (paths.root / "data.dvc").unlink()
    (paths.root / "dvc.lock").unlink()
    model_manifest = write(paths)
    assert model_manifest.data.pointer is None and model_manifest.dvc_lock is None


@pytest.mark.parametrize("text", ["outs: []", "outs: [{path: data}]", "", "other: 1"])
def test_a_broken_data_dvc_is_an_error(paths: Paths, text: str) -> None:
    (paths.root / "data.dvc").write_text(text)
    with pytest.raises(MlcError, match="names no output with an md5"):
        write(paths)


def test_verify_names_every_difference(paths: Paths) -> None:
    write(paths)
    (paths.model / "model.safetensors").write_text("weightz")
    (paths.model / "tokenizer" / "tokenizer.json").unlink()
    (paths.model / "extra.bin").write_text("")
    with pytest.raises(
        MlcError, match=r"changed: model\.safetensors; missing: tokenizer/tokenizer\.json; added: extra\.bin"
    ):
        manifest.verify(paths.model)


def test_a_model_without_manifest_is_an_error(paths: Paths) -> None:
    with pytest.raises(MlcError, match=r"manifest\.json does not exist: run `mlc train` and `mlc select` first"):
        manifest.verify(paths.model)


def test_a_manifest_from_before_rows_were_counted_can_be_read(paths: Paths) -> None:
    content = write(paths).content()
    del content["trained_on"]
    (paths.model / manifest.NAME).write_text(json.dumps(content))
    older = Manifest.of(paths.model)
    assert older.trained_on is None and older.content() == content
