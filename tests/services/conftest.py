"""A team's tracking server as shipped: PostgreSQL and MLflow with users, on loopback, by mlflow/serve.sh."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A running server with the users trainer and approver."""
    if not (shutil.which("pg_ctl") or list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))):
        pytest.skip("PostgreSQL is not installed: the distribution's package postgresql")
    for module, extra in (("psycopg2", "server"), ("flask_wtf", "server")):
        pytest.importorskip(module, reason=f"pip install -e .[{extra}]")
    # Not tmp_path: PostgreSQL's own user has to reach it where the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="mlc-server-"))
    folder.chmod(0o755)
    running = Server(folder)
    try:
        running.start()
        for role in ("trainer", "approver"):
            running.add(role)
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
