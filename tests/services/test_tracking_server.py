"""The pipeline against a team's server over HTTP: who may do what, and what a backup brings back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML
from team_server import Server
from test_pipeline import project, run  # noqa: F401  # project is a fixture

from mlc import tracking
from mlc.paths import Paths

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]  # the whole pipeline, beside other work


def mlc(server: Server, user: str, folder: Path, *command: str, code: int = 0) -> str:
    """Runs mlc as ``user``; returns what it printed, on both streams."""
    done = subprocess.run(
        ["mlc", *command], cwd=folder, env=server.environment(user), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def act_as(server: Server, user: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The client that the pipeline uses, as ``user``."""
    for key, value in server.environment(user).items():
        if key.startswith("MLFLOW_"):
            monkeypatch.setenv(key, value)
    return tracking.client(Paths())


@pytest.fixture(scope="module")
def trained(project: Path, server: Server) -> Path:  # noqa: F811
    """The project after a run as trainer, whose random model passes."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["languages"] = {"source": "en", "served": ["en", "zh"], "transfer": []}
    params["evaluate"]["max_new_tokens"] = 4
    params["gate"]["rules"] = [{"metric": "safe_rate", "at_least": 0.0}]
    params["gate"]["unsafe_settings"] = ["max_new_tokens", "minimum_prompts", "safe_rate", "over_refusal"]
    yaml.dump(params, project / "params.yaml")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "a gate for anything")
    output = mlc(server, "trainer", project, "run", code=1)
    assert "register" in output and "refuses this to trainer" in output and "MLFLOW_TRACKING_PASSWORD" in output
    assert "Traceback" not in output
    return project


@pytest.fixture(scope="module")
def registered(trained: Path, server: Server) -> Path:
    """The same, registered by the approver from the same files."""
    assert "version 1 of mlc-embedded" in mlc(server, "approver", trained, "register")
    return trained


def test_a_trainer_logs_and_an_approver_registers(registered: Path, server: Server) -> None:
    registration = json.loads((registered / "artifacts/registration.json").read_text())
    assert (registration["version"], registration["champion"]) == ("1", "1")
    assert {entry["who"] for entry in registration["ledger"]} == {"approver"}
    assert not (registered / "mlflow/mlflow.db").exists()
    assert "champion" in mlc(server, "trainer", registered, "registry", "list")


@pytest.mark.usefixtures("registered")
def test_without_permission_nobody_moves_champion(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = act_as(server, "trainer", monkeypatch)
    before = client.get_registered_model("mlc-embedded")
    for attempt in (
        lambda: client.set_registered_model_alias("mlc-embedded", "champion", "1"),
        lambda: client.delete_registered_model_alias("mlc-embedded", "champion"),
        lambda: client.set_registered_model_tag("mlc-embedded", "ledger.1", "{}"),
        lambda: client.create_model_version("mlc-embedded", before.latest_versions[0].source),
        lambda: client.delete_registered_model("mlc-embedded"),
        lambda: client.rename_registered_model("mlc-embedded", "mine"),
    ):
        with pytest.raises(MlflowException) as refused:
            attempt()
        assert re.search("refuses this to trainer: .*MLFLOW_TRACKING_USERNAME", str(tracking.explained(refused.value)))
    after = client.get_registered_model("mlc-embedded")
    assert (after.aliases, after.tags) == (before.aliases, before.tags)


@pytest.mark.usefixtures("registered")
def test_a_trainer_registers_in_a_model_of_its_own_and_an_approver_copies(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = act_as(server, "trainer", monkeypatch)
    version = trainer.get_model_version("mlc-embedded", "1")
    trainer.create_registered_model("candidates")
    trainer.create_model_version("candidates", version.source, version.run_id, tags={"manifest": "m"})
    with pytest.raises(MlflowException, match="Permission denied"):
        trainer.copy_model_version("models:/candidates/1", "mlc-embedded")
    copied = act_as(server, "approver", monkeypatch).copy_model_version("models:/candidates/1", "mlc-embedded")
    assert copied.tags["manifest"] == "m"
    act_as(server, "admin", monkeypatch).delete_model_version("mlc-embedded", copied.version)


@pytest.mark.parametrize("password", ["wrong", None])
def test_who_is_unknown_is_told_what_to_set(
    server: Server, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    act_as(server, "trainer", monkeypatch)
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(MlflowException) as refused:
        tracking.client(Paths()).search_registered_models()
    message = str(tracking.explained(refused.value))
    assert message.endswith("does not know who this is: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


def test_a_backup_brings_everything_back_after_all_is_lost(registered: Path, server: Server) -> None:
    listed = mlc(server, "trainer", registered, "registry", "list")
    copy = server.folder / "backup"
    assert "backup: " in server.script("backup.sh", server.settings, copy)
    assert "is not empty" in server.script("backup.sh", server.settings, copy, code=2)

    server.stop()
    shutil.rmtree(server.folder / "postgres")
    shutil.rmtree(server.artifacts)
    output = mlc(server, "trainer", registered, "registry", "list", code=75)
    assert "cannot be reached" in output and len(output.strip().splitlines()) == 1

    dump = copy / "mlflow.dump"
    whole = dump.read_bytes()
    server.script("postgres.sh", "start", server.settings, server.folder)
    try:
        dump.write_bytes(whole[:-1] + b"?")
        assert "FAILED" in server.script("restore.sh", server.settings, copy, code=1)
        dump.write_bytes(whole)
        assert "verified and restored" in server.script("restore.sh", server.settings, copy)
        assert "has tables" in server.script("restore.sh", server.settings, copy, code=2)
        for upgrade in (
            ["mlflow", "db", "upgrade", "postgresql:///mlflow"],
            [sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", "postgresql:///mlflow_auth"],
        ):
            subprocess.run(upgrade, env=server.environment(None) | server.values, check=True)
    finally:
        server.script("postgres.sh", "stop", server.settings, server.folder)
    server.start()
    assert mlc(server, "trainer", registered, "registry", "list") == listed
    mlc(server, "trainer", registered, "registry", "verify", "champion")


def test_a_backup_brings_a_bucket_back(place: Path, bucket: tuple[str, Any]) -> None:
    if not shutil.which("aws"):
        pytest.skip("the command aws is not installed")
    endpoint, s3 = bucket
    folder = place / "with-a-bucket"
    folder.mkdir()
    server, copy = Server(folder, endpoint), folder / "backup"
    files = {"1/run/artifacts/model/weights.bin": bytes(range(256)) * 1000, "1/run/artifacts/verdict 词.json": b"{}"}
    for key, content in files.items():
        s3.put_object(Bucket="mlflow", Key=key, Body=content)
    server.script("postgres.sh", "start", server.settings, folder)
    try:
        server.script("backup.sh", server.settings, copy)
        assert "the bucket is not empty" in server.script("restore.sh", server.settings, copy, code=2)
        for key in files:
            s3.delete_object(Bucket="mlflow", Key=key)
        assert "verified and restored" in server.script("restore.sh", server.settings, copy)
    finally:
        server.script("postgres.sh", "stop", server.settings, folder)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert {key: s3.get_object(Bucket="mlflow", Key=key)["Body"].read() for key in keys} == files


def test_a_server_that_is_down_is_said_soon_and_costs_nothing(registered: Path, server: Server) -> None:
    model = registered / "artifacts/model/model.safetensors"
    before = (model.stat().st_mtime_ns, (registered / "artifacts/registration.json").read_text())
    server.stop()
    try:
        start = time.monotonic()
        output = mlc(server, "approver", registered, "register", code=75)
        assert time.monotonic() - start < 45
        assert "cannot be reached" in output and "Traceback" not in output
        assert (model.stat().st_mtime_ns, (registered / "artifacts/registration.json").read_text()) == before
    finally:
        server.start()
    assert "version 1 of mlc-embedded" in mlc(server, "approver", registered, "register")
