"""What the examination of a team's server finds, as users with and without rights; it writes nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from team_server import Server

from mlc.paths import Paths
from mlc.project import connections
from mlc.settings import load_settings

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")


def client(server: Server, user: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for key, value in server.environment(user).items():
        if key.startswith("MLFLOW_"):
            monkeypatch.setenv(key, value)
    return MlflowClient()


def examined(tmp_path: Path) -> list[tuple[str, str]]:
    return [(check.name, check.state) for check in connections.tracking(SETTINGS, Paths(tmp_path))]


def test_a_trainer_may_not_edit_and_an_approver_may(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = SETTINGS.register_.model_name
    before = client(server, "approver", monkeypatch).get_registered_model(name)  # permissions.sh has made it
    assert examined(tmp_path) == [("tracking", "ok"), ("permissions", "ok")]
    trainer = client(server, "trainer", monkeypatch)
    assert examined(tmp_path) == [("tracking", "ok"), ("permissions", "problem")]
    after = trainer.get_registered_model(name)
    assert (after.tags, after.last_updated_timestamp) == (before.tags, before.last_updated_timestamp)
