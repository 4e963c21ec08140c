"""A DVC remote that speaks S3's protocol: pushed from one clone, pulled in another, the same to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc.files import sha256_folder

pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket() -> Iterator[str]:
    """The endpoint of a local server with an empty bucket ``models``."""
    boto3 = pytest.importorskip("boto3", reason="pip install -e .[s3,server]")
    pytest.importorskip("dvc_s3", reason="pip install -e .[s3,server]")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="models")
        yield endpoint
    finally:
        server.stop()


def run(folder: Path, *command: str) -> str:
    env = {**os.environ, **KEYS, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_what_one_clone_pushes_another_pulls(bucket: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    run(one, "git", "init", "-q")
    run(one, "dvc", "init", "-q")
    run(one, "dvc", "remote", "add", "--default", "store", "s3://models/project")
    run(one, "dvc", "remote", "modify", "store", "endpointurl", bucket)
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
