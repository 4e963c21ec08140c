"""A DVC remote that speaks S3's protocol: pushed from one clone, pulled in another, the same to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc.files import sha256_folder

pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def run(folder: Path, *command: str) -> str:
    env = {**os.environ, **KEYS, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_what_one_clone_pushes_another_pulls(bucket: tuple[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3", reason="pip install -e .[s3]")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    run(one, "git", "init", "-q")
    run(one, "dvc", "init", "-q")
    run(one, "dvc", "remote", "add", "--default", "store", "s3://mlflow/project")
    run(one, "dvc", "remote", "modify", "store", "endpointurl", bucket[0])
    model = one / "model"
    (model / "tokenizer").mkdir(parents=True)
    (model / "model.safetensors").write_bytes(os.urandom(3_000_000))
    (model / "tokenizer" / "词.json").write_text("{}")
    run(one, "dvc", "add", "-q", "model")
    run(one, "git", "add", "-A")
    run(one, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "model")
    assert "3 files pushed" in run(one, "dvc", "push")
    run(tmp_path, "git", "clone", "-q", "one", "two")
    run(two, "dvc", "pull")
    assert sha256_folder(two / "model") == sha256_folder(model)
    assert "in sync" in run(two, "dvc", "status", "--cloud")
