"""How a run ended reaches people: a real server receives what a notification block sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from prefect import State, flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.states import Completed, Failed

from flows.notify import WORTH_TELLING, ended, send

RECEIVED: list[dict[str, str]] = []


class _Receives(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        RECEIVED.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def block() -> Iterator[str]:
    """A saved webhook block, as people name it."""
    with HTTPServer(("127.0.0.1", 0), _Receives) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        CustomWebhookNotificationBlock(
            name="team",
            url=f"http://127.0.0.1:{httpd.server_port}/hook",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        ).save("team", overwrite=True)
        yield "custom-webhook/team"
        httpd.shutdown()


@flow(name="retrain", on_completion=[ended], on_failure=[ended])
def ends(
    name: str,
    notify: str | None = None,  # noqa: ARG001 - the hook's
    notify_on: tuple[str, ...] = WORTH_TELLING,  # noqa: ARG001
) -> State[Any]:
    kind = Failed if name in ("Failed", "TimedOut", "Away") else Completed
    return kind(name=name, message=f"why it is {name}")


@pytest.mark.parametrize("name", ["Promoted", "Refused", "BelowGate", "Failed", "TimedOut", "Away"])
def test_how_a_run_ended_is_told(block: str, name: str) -> None:
    RECEIVED.clear()
    ends(name, block, return_state=True)
    (message,) = RECEIVED
    assert message["subject"] == f"retrain: {name}"
    assert message["body"].startswith(f"why it is {name}\nRun: ")


def test_only_what_was_asked_for_is_told(block: str) -> None:
    RECEIVED.clear()
    ends("Unchanged", block, return_state=True)
    ends("Refused", block, ("Failed",), return_state=True)
    ends("Refused", return_state=True)
    assert not RECEIVED
    ends("TimedOut", block, ("Failed",), return_state=True)
    assert len(RECEIVED) == 1


@pytest.mark.parametrize("wrong", ["custom-webhook/nobody", "no-such-block/at-all", "nonsense"])
def test_a_run_does_not_fail_because_nobody_could_be_told(wrong: str) -> None:
    assert ends("Promoted", wrong, return_state=True).name == "Promoted"


def test_the_secret_address_of_a_webhook_that_fails_is_in_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no answer from https://hooks.example.org/services/T000/B000/hunter22")

    monkeypatch.setattr(CustomWebhookNotificationBlock, "notify", refused)
    CustomWebhookNotificationBlock(name="away", url="http://127.0.0.1:9", json_data={}).save("away", overwrite=True)
    send("custom-webhook/away", "subject", "body")
    assert "no answer from https://***" in caplog.text and "hunter22" not in caplog.text
