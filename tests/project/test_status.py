"""How things stand: registry, runs, what is stale, and the next scheduled run of a Prefect server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import records

from mlc import tracking
from mlc.paths import Paths
from mlc.project import status
from mlc.registry.model import RegisteredModel

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Paths:
    """Two versions, of which the second is champion; a run; and a stage that never ran."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("status")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "dvc.yaml").write_text('{"stages": {"s": {"cmd": "true", "deps": ["in"], "params": ["a"]}}}')
    (folder / "in").write_text("x")
    (folder / "params.yaml").write_text("a: 1\n")
    Repo.init(str(folder)).close()
    (folder / "mlflow").mkdir()
    shutil.copy(store, folder / "mlflow")
    paths = Paths(folder)
    with tracking.run(paths, "train", tags={"gate": "passed"}):
        pass
    model = RegisteredModel(paths, "m")
    model.create()
    for _ in range(2):
        model.client.create_model_version("m", source=folder.as_uri())
    for version in "12":
        model.make_champion("promote", version)
    return paths


def test_champion_runs_and_what_is_stale(project: Paths) -> None:
    project_status = status.find("m", project)
    assert (project_status["registry"]["champion"], project_status["registry"]["previous"]) == ("2", "1")
    assert [(run["name"], run["status"], run["gate"]) for run in project_status["runs"]] == [
        ("train", "FINISHED", "passed")
    ]
    assert set(project_status["stale"]) == {"s"} and "in" in project_status["stale"]["s"]
    assert json.loads(json.dumps(project_status)) == project_status
    text = status.render_text(project_status)
    assert "version 2 of m, champion for" in text and "train: finished, gate passed" in text
    assert "PREFECT_API_URL is not set" in text


@pytest.mark.parametrize("waits", [True, False])
def test_a_version_that_waits_for_a_person_is_shown(project: Paths, waits: bool) -> None:
    project.registration.parent.mkdir(exist_ok=True)
    project.registration.write_text(json.dumps(records.registration(waiting=waits, version="1")))
    registry = status._registry("m", project)
    text = status.render_text({"registry": registry, "runs": [], "stale": {}, "schedule": {"configured": False}})
    assert ("version 1: `mlc registry approve 1" in text) == waits


def test_asking_makes_no_store(tmp_path: Path) -> None:
    project_status = status.find("m", Paths(tmp_path))
    assert project_status["registry"]["champion"] is None and "error" in project_status["stale"]
    assert list(tmp_path.iterdir()) == []


class Prefect(BaseHTTPRequestHandler):
    runs: ClassVar[list[dict[str, str]]] = []
    requests: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        assert self.path == "/api/flow_runs/filter"
        self.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.runs).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_the_next_scheduled_run(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    try:
        assert status._schedule() == {"configured": True, "next": None}
        due = (NOW + timedelta(days=3, hours=1)).isoformat()
        Prefect.runs = [{"expected_start_time": due, "name": "red-fox"}]
        assert status._schedule() == {"configured": True, "next": due, "run": "red-fox"}
        assert Prefect.requests[0]["sort"] == "EXPECTED_START_TIME_ASC"
    finally:
        server.shutdown()
        server.server_close()
    assert "error" in status._schedule()


def test_ages_are_in_the_unit_that_people_would_use() -> None:
    for age, expected in (
        (timedelta(days=9), "9 days"),
        (timedelta(hours=30), "30 hours"),
        (timedelta(0), "0 seconds"),
    ):
        assert status._ago(NOW - age, NOW) == expected
