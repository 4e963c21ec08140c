"""What passes by itself and what never does, told apart by real errors of the libraries."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import requests

from mlc.errors import MlcError, disk_full, is_transient, read_only


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("/gone.txt"):
            self.close_connection = True
            return
        if "?path=" in self.path:  # MLflow's list of a folder's files
            listing = json.dumps({"files": [{"path": "gone.txt", "is_dir": False, "file_size": 9}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(listing)))
            self.end_headers()
            self.wfile.write(listing)
            return
        status = self.path.strip("/").split("/")[0]
        self.send_response(200 if status == "half" else int(status))
        if status == "half":
            self.send_header("Content-Length", "1000")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Answers with the status that the path begins with; ``half`` is an answer that breaks off."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def nowhere() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def _error(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def test_a_server_that_is_away_passes(nowhere: str) -> None:
    assert is_transient(_error(lambda: requests.get(nowhere)))
    assert is_transient(_error(lambda: httpx.get(nowhere)))


def test_a_store_that_goes_away_during_a_download_passes(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = f"mlflow-artifacts://{server.removeprefix('http://')}/1/2/artifacts"
    error = _error(lambda: mlflow.artifacts.download_artifacts(folder, tracking_uri=server))
    assert "gone.txt" in str(error) and is_transient(error), error


def test_a_server_that_goes_away_amid_its_answer_passes(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert is_transient(_error(lambda: requests.get(f"{server}/half")))
    assert is_transient(_error(lambda: httpx.get(f"{server}/half")))
    assert is_transient(_error(lambda: MlflowClient(f"{server}/half").get_run("1")))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_overloaded_server_passes(server: str, status: int) -> None:
    assert is_transient(_error(lambda: requests.get(f"{server}/{status}").raise_for_status()))
    assert is_transient(_error(lambda: httpx.get(f"{server}/{status}").raise_for_status()))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_a_refusal_does_not_pass(server: str, status: int) -> None:
    assert not is_transient(_error(lambda: requests.get(f"{server}/{status}").raise_for_status()))
    assert not is_transient(_error(lambda: httpx.get(f"{server}/{status}").raise_for_status()))


def test_mlflow_without_its_server_passes(nowhere: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert is_transient(_error(lambda: MlflowClient(nowhere).get_run("1")))
    assert is_transient(_error(lambda: MlflowClient(f"{server}/503").get_run("1")))
    assert not is_transient(_error(lambda: MlflowClient(f"{server}/403").get_run("1")))


def test_what_people_are_told_about_a_passing_fault_passes_too(nowhere: str) -> None:
    def fetch() -> None:
        try:
            httpx.get(nowhere)
        except httpx.TransportError as error:
            raise MlcError(f"the model could not be fetched: {error}") from None

    assert is_transient(_error(fetch))


@pytest.mark.parametrize(
    "error", [MlcError("3 % of Swahili is in quarantine"), ValueError(), BrokenPipeError(), FileNotFoundError()]
)
def test_mistakes_and_broken_files_never_pass(error: Exception) -> None:
    assert not is_transient(error)


def test_working_offline_is_a_setting_and_no_fault() -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    assert not is_transient(OfflineModeIsEnabled("offline"))


def _sqlite(statement: str, *, mode: str = "rwc", pages: int = 1000) -> None:
    with contextlib.closing(sqlite3.connect(f"file:disk?mode={mode}", uri=True)) as database:
        database.execute(f"pragma max_page_count = {pages}")
        database.execute(statement)


def test_a_full_and_a_read_only_disk_are_known_whoever_met_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def written() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("a")

    assert disk_full(_error(written)) == "No space left on device"
    _sqlite("create table a (b)")
    assert disk_full(_error(lambda: _sqlite("create table c as select randomblob(1000000)", pages=3)))
    refused = _error(lambda: _sqlite("create table d (b)", mode="ro"))
    assert read_only(refused) == "attempt to write a readonly database"
    wrapped = RuntimeError(f"({refused}) [SQL: INSERT ...")
    wrapped.__cause__ = refused
    assert read_only(wrapped) == read_only(refused)
    for error in (MlcError("3 % of Swahili is in quarantine"), FileNotFoundError(), ValueError()):
        assert disk_full(error) is None and not read_only(error)
