"""A team's tracking server as shipped: PostgreSQL and MLflow with users, on loopback, by mlflow/serve.sh."""

from __future__ import annotations

import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from team_server import Server


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for servers. Not tmp_path: PostgreSQL's own user has to reach it where the tests run as root."""
    if not (shutil.which("pg_ctl") or list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))):
        pytest.skip("PostgreSQL is not installed: the distribution's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="mlc-server-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """A running server with the users trainer and approver."""
    for module in ("psycopg2", "flask_wtf"):
        pytest.importorskip(module, reason="pip install -e .[server]")
    running = Server(place)
    try:
        running.start()
        for role in ("trainer", "approver"):
            running.add(role)
        yield running
    finally:
        running.stop()


@pytest.fixture
def bucket() -> Iterator[tuple[str, Any]]:
    """The endpoint of a local server that speaks S3's protocol, with an empty bucket ``mlflow``, and a client of it."""
    boto3 = pytest.importorskip("boto3", reason="pip install -e .[s3,server]")
    running = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        endpoint = "http://{}:{}".format(*running.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        urllib.request.urlopen(f"{endpoint}/moto-api/reset", data=b"")  # its content is the process's, not the server's
        client.create_bucket(Bucket="mlflow")
        yield endpoint, client
    finally:
        running.stop()
