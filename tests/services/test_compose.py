"""compose.yaml, as far as it can be looked at without a container daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / "mlflow"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(FOLDER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _settings() -> dict[str, str]:
    """What new-settings.sh writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "team.env"
        subprocess.run([FOLDER / "new-settings.sh", file], stdout=subprocess.DEVNULL, check=True)
        lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


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
    secrets = [name for name in one if re.search("PASSWORD|SECRET|SIGNING", name)]
    assert len(secrets) == 5
    values = [settings[name] for settings in (one, two) for name in secrets]
    assert len(set(values)) == 10 and all(re.fullmatch("[0-9a-f]{48}", secret) for secret in values)


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_only_its_owner_can_read_the_settings_and_no_password_is_shown(tmp_path: Path, umask: str) -> None:
    file = tmp_path / "team.env"
    command = ["sh", "-c", f'umask {umask}; exec "$0" "$1"', FOLDER / "new-settings.sh", file]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    assert file.stat().st_mode & 0o777 == 0o600 and file.stat().st_nlink == 1
    assert done.stdout == f"settings: {file}, which only you can read\n"
    assert [path.name for path in tmp_path.iterdir()] == ["team.env"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_settings_that_are_there_stay(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "team.env"
    if kind == "folder":
        file.mkdir()
    elif kind == "file":
        file.write_text("PGPASSWORD=in use\n")
    else:
        file.symlink_to(tmp_path / "elsewhere")
        if kind == "link":
            (tmp_path / "elsewhere").write_text("PGPASSWORD=in use\n")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = subprocess.run([FOLDER / "new-settings.sh", file], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"{file} exists: ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert kind in ("folder", "dangling") or file.read_text() == "PGPASSWORD=in use\n"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["nowhere/team.env"]])
def test_settings_go_nowhere_without_one_file_to_write(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run([FOLDER / "new-settings.sh", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and not done.stdout and done.stderr and not list(tmp_path.iterdir())


def test_two_at_once_make_one_file(tmp_path: Path) -> None:
    file = tmp_path / "team.env"
    running = [subprocess.Popen([FOLDER / "new-settings.sh", file], stdout=-3, stderr=-3) for _ in range(6)]
    assert sorted(process.wait() for process in running) == [0, 2, 2, 2, 2, 2]
    assert len(file.read_text().splitlines()) > 20 and len(list(tmp_path.iterdir())) == 1


def test_only_the_gateway_of_the_store_listens_beyond_its_container() -> None:
    command = SERVICES["store"]["command"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-s3.iam=false"} <= set(command)
    (port,) = [flag.partition("=")[2] for flag in command if flag.startswith("-s3.port=")]
    assert SERVICES["store"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert SERVICES["store"]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/healthz"
    inside = {
        service["environment"]["AWS_ENDPOINT_URL"] for name, service in SERVICES.items() if name in ("bucket", "mlflow")
    }
    assert inside == {f"http://store:{port}"}
    for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"):
        assert _settings()[name] == f"http://127.0.0.1:{port}"


def test_the_bucket_is_made_once() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = _settings() | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "PATH": os.environ["PATH"]}
        command = SERVICES["bucket"]["command"]
        assert command[0] == "python"
        for _ in range(2):
            subprocess.run([sys.executable, *command[1:]], env=settings, check=True)
        code = "import boto3; print([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']])"
        listed = subprocess.run(
            [sys.executable, "-c", code],
            env=settings, capture_output=True, text=True, check=True,
        )  # fmt: skip
        bucket = settings["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
        assert listed.stdout == f"['{bucket}']\n"
    finally:
        server.stop()


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
