"""A real MLflow server that is killed, that hangs for a while, and that is never there."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from building import set_params
from cases import Case
from harness import SEED, Project
from invariants import Table, state, unsafe, unsettled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
PASSING = 75  # the exit code: the same command may work later
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """``mlflow server`` over a sqlite file, with artifacts by way of the server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.env = {"MLFLOW_TRACKING_URI": self.uri}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/served.db"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with (self.folder / "server.txt").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)
        end = time.monotonic() + 180
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.txt").read_text())

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    with contextlib.suppress(ProcessLookupError):
        server.kill()


def registered(project: Project, server: Server) -> list[str]:
    """What is wrong after the next run, on the server: a model of one version, which is champion."""
    again = project.mlc("register", env=server.env)
    if again.code:
        return [f"run again it ends with {again.code}: {again.output[-2000:]}"]
    now: dict[str, Any] = project.inspect(state, env=server.env)
    violations = unsafe({"aliases": {}, "ledger": [], "keys": []}, now, project.good) + unsettled(now)
    if now["aliases"] != {"champion": "1", "candidate": "1"}:
        violations.append(f"aliases {now['aliases']}")
    return violations


def name(project: Project, model: str) -> None:
    """Another registered model, so that the same candidate is registered anew."""
    set_params(project.root, lambda params: params["register"].update(model_name=model))


def test_an_mlflow_server_killed_while_it_is_written_to(project: Project, table: Table, server: Server) -> None:
    project.restore("second")
    name(project, "undisturbed")
    project.done("register", env=server.env)
    rng = random.Random(f"{SEED} server")
    for number in range(5):
        name(project, f"killed-{number}")
        running = project.start("register", env=server.env)
        seconds = rng.uniform(0.1, 0.9) * project.times[("register",)]
        time.sleep(seconds)
        server.kill()
        ended = running.wait()
        server.start()
        violations = []
        if ended.code and not (ended.code == PASSING and ended.explained):
            violations.append(f"it ends with {ended.code}: {ended.output[-2000:]}")
        violations += registered(project, server)
        outcome = "the next run completes" if ended.code else "the command had ended"
        table.add("kill -9 of the MLflow server", "register", outcome, [f"{seconds:.1f} s: {v}" for v in violations])
        assert not violations, violations


def test_an_mlflow_server_that_hangs_is_waited_for(project: Project, table: Table, server: Server) -> None:
    project.restore("second")
    for number in range(2):
        name(project, f"hanging-{number}")
        server.signal(signal.SIGSTOP)
        running = project.start("register", env=server.env)
        time.sleep(6)
        server.signal(signal.SIGCONT)
        ended = running.wait()
        violations = [f"it ends with {ended.code}: {ended.output[-2000:]}"] if ended.code else []
        violations += registered(project, server)
        table.add("MLflow hangs for 6 s", "register", "it is waited for", violations)
        assert not violations, violations


@pytest.mark.parametrize(("command", "kept"), [("train", "before train"), ("register", "second")])
def test_an_mlflow_server_that_is_never_there_is_one_line(
    project: Project, table: Table, command: str, kept: str
) -> None:
    case = Case(project, table, command, kept, ())
    project.restore(kept)
    ended = project.mlc(command, env={"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"})
    wrong = []
    if not (ended.code == PASSING and ended.explained):
        wrong.append(f"it ends with {ended.code}: {ended.output[-2000:]}")
    case.check("MLflow is never there", ended, "a closed port", *wrong)
    case.assert_nothing_found()
