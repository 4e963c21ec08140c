"""compose.yaml, as far as it can be looked at without a container daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / "mlflow"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(FOLDER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _settings() -> dict[str, str]:
    """What new-settings.sh prints."""
    output = subprocess.run([FOLDER / "new-settings.sh"], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if line and not line.startswith("#"))


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else [str(value)]


def test_what_runs_is_pinned_watched_and_waited_for() -> None:
    assert set(SERVICES) == {"postgres", "store", "bucket", "mlflow"}
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", service["image"]), name
        if service.get("restart"):
            assert service["healthcheck"]["test"], name
        for other, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in SERVICES[other]), f"{name} on {other}"
        volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert all(v in COMPOSE["volumes"] or (FOLDER / v).is_file() for v in volumes), name


def test_every_setting_is_made_and_none_has_a_default() -> None:
    required = {name for text in _texts(COMPOSE) for name in re.findall(r"(?<!\$)\$\{(\w+):\?", text)}
    assert {"PGPASSWORD", "AWS_SECRET_ACCESS_KEY"} <= required <= _settings().keys()
    assert not [text for text in _texts(COMPOSE) if re.search(r"(?<!\$)\$(\w+|\{\w+(?!\w*:\?))", text)]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|SECRET|KEY", name)
            assert not secret or value.startswith("${"), name


def test_passwords_are_made_anew_each_time() -> None:
    one, two = _settings(), _settings()
    secrets = [name for name in one if re.search("PASSWORD|SECRET", name)]
    assert len(secrets) == 4
    values = [settings[name] for settings in (one, two) for name in secrets]
    assert len(set(values)) == 8 and all(re.fullmatch("[0-9a-f]{48}", secret) for secret in values)


def test_only_this_machine_reaches_database_and_store() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert all(port.startswith("127.0.0.1:") for name in ("postgres", "store") for port in ports[name])
    assert ports["mlflow"] == ["${MLFLOW_HOST:?}:${MLFLOW_PORT:?}:5000"] and _settings()["MLFLOW_HOST"] == "127.0.0.1"


def test_the_servers_image_holds_the_versions_of_this_project() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    pinned = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?==([\w.]+)"', text))
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)", (FOLDER.parent / "constraints.txt").read_text(), re.M))
    tested = {name.lower(): version for name, version in constraints.items()}
    assert pinned and all(tested[name.lower()] == version for name, version in pinned.items())
    assert SERVICES["mlflow"]["image"].endswith(pinned["mlflow"])


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose here")
    folder = tmp_path / "mlflow"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.db*", "artifacts"))
    (folder / "team.env").write_text("".join(f"{k}={v}\n" for k, v in _settings().items()))
    command = [docker, "compose", "--file", folder / "compose.yaml", "--env-file", folder / "team.env", "config"]
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
