"""The shipped scripts, run on a folder of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

SCRIPTS = Path(__file__).parents[2] / "mlflow"
BIN = Path(sys.executable).parent
PASSWORDS = {"trainer": "trainer-password", "approver": "approver-password"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Returns when ``url`` answers; fails with the log when the process ends or takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"{url} does not answer\n{log.read_text()}")


class Server:
    """PostgreSQL and MLflow with basic-auth on free ports of loopback, in ``folder``; artifacts too, or in a bucket."""

    def __init__(self, folder: Path, endpoint: str | None = None) -> None:
        self.folder, self.settings = folder, folder / "team.env"
        self.artifacts = folder / "artifacts"
        subprocess.run([SCRIPTS / "new-settings.sh", self.settings], stdout=subprocess.DEVNULL, check=True)
        lines = self.settings.read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        if endpoint is None:
            values = {key: value for key, value in values.items() if not key.startswith(("AWS_", "MLFLOW_S3_"))}
            values["MLFLOW_ARTIFACTS_DESTINATION"] = str(self.artifacts)
        else:
            values |= {"AWS_ENDPOINT_URL": endpoint, "MLFLOW_S3_ENDPOINT_URL": endpoint}
        values |= {"PGPORT": str(free_port()), "MLFLOW_PORT": str(free_port()), "MLFLOW_WORKERS": "1"}
        self.settings.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        self.values = values
        self.uri = f"http://127.0.0.1:{values['MLFLOW_PORT']}"
        self.process: subprocess.Popen[bytes] | None = None

    def script(self, name: str, *arguments: str | Path, user: str | None = None, given: str = "", code: int = 0) -> str:
        """Runs a script of mlflow/, as ``user``; returns what it printed, on both streams."""
        done = subprocess.run(
            [SCRIPTS / name, *arguments],
            env=self.environment(user),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{name}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def environment(self, user: str | None) -> dict[str, str]:
        """Of a client of this server: as ``user``, or as nobody."""
        cleared = ("PREFECT_", "MLFLOW_", "GIT_", "PG")
        env = {key: value for key, value in os.environ.items() if not key.startswith(cleared)}
        env |= {"PATH": f"{BIN}{os.pathsep}{env['PATH']}", "MLFLOW_TRACKING_URI": self.uri}
        env |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
        if user is not None:
            password = self.values["MLFLOW_AUTH_ADMIN_PASSWORD"] if user == "admin" else PASSWORDS[user]
            env |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        return env

    def add(self, role: str) -> None:
        """Makes a user of the role's name."""
        arguments = (role, role, "mlc", "mlc-embedded")
        self.script("permissions.sh", *arguments, user="admin", given=f"{PASSWORDS[role]}\n")

    def start(self) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [SCRIPTS / "serve.sh", self.settings, self.folder],
                env=self.environment(None),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        wait_for(f"{self.uri}/health", self.process, log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None
