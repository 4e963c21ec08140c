"""The client of an OpenAI-compatible endpoint, against a real server that behaves as endpoints do."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlc import endpoint
from mlc.endpoint import Completion, Endpoint, EndpointError, Refused
from mlc.errors import MlcError


class Server(ThreadingHTTPServer):
    """Says the last message back in capitals. What the message begins with decides what goes wrong first."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.attempts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.at: dict[str, list[float]] = {}
        self.busy = self.busiest = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
            self.server.attempts[text] += 1
            attempt = self.server.attempts[text]
            self.server.bodies.append(body)
            self.server.keys.add(self.headers.get("Authorization"))
            self.server.at.setdefault(text, []).append(time.monotonic())
        time.sleep(0.02)
        with self.server.lock:
            self.server.busy -= 1
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": "no such path"})
        elif text.startswith("down"):
            self._send(503, {"error": "overloaded"})
        elif text.startswith("limited") and attempt == 1:
            self._send(429, {"error": "slow down"}, {"Retry-After": "0.5"})
        elif text.startswith("dropped") and attempt == 1:
            self.close_connection = True
        elif text.startswith("filtered"):
            self._send(400, {"error": "content filter"})
        elif text.startswith("nonsense"):
            self._send(200, {"choices": []})
        elif text.startswith("key"):
            self._send(401, {"error": "no such key"})
        else:
            choice = {"message": {"content": text.upper()}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2}
            whole = {"choices": [choice], "usage": usage, "model": "served", "system_fingerprint": "f1"}
            self._send(200, whole)

    def _send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def bodies(*texts: str) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": text}], "temperature": 0} for text in texts]


def test_every_request_is_answered_once_and_no_more_than_so_many_at_a_time(server: Server) -> None:
    texts = [f"prompt {i}" for i in range(30)]
    answers = dict(Endpoint(server.url, "m", concurrency=4).complete(bodies(*texts)))
    assert sorted(answers) == list(range(30)) and set(server.attempts.values()) == {1}
    assert all(isinstance(answers[i], Completion) and answers[i].text == texts[i].upper() for i in range(30))
    assert 1 < server.busiest <= 4
    assert server.bodies[0] == {"model": "m", **bodies(server.bodies[0]["messages"][0]["content"])[0]}
    answer = answers[0]
    assert isinstance(answer, Completion)
    assert answer[1:6] == ("stop", 3, 2, "served", "f1") and answer.seconds > 0


def test_passing_faults_are_tried_again_after_the_wait_that_is_asked_for(server: Server) -> None:
    answers = dict(Endpoint(server.url, "m").complete(bodies("limited", "dropped", "fine")))
    assert [answers[i].text for i in range(3)] == ["LIMITED", "DROPPED", "FINE"]  # type: ignore[union-attr]
    assert server.attempts == {"limited": 2, "dropped": 2, "fine": 1}
    first, second = server.at["limited"]
    assert second - first >= 0.5


def test_what_one_request_meets_does_not_stop_the_others(server: Server) -> None:
    answers = dict(Endpoint(server.url, "m").complete(bodies("filtered", "fine", "nonsense")))
    assert isinstance(answers[0], Refused) and "content filter" in answers[0].reason
    assert isinstance(answers[2], Refused) and "no chat completion" in answers[2].reason
    assert isinstance(answers[1], Completion)
    assert server.attempts["filtered"] == 1


def test_an_endpoint_that_stays_down_is_given_up_with_what_it_said(server: Server) -> None:
    with pytest.raises(EndpointError, match=r"gave up after 3 attempts: 503 .*overloaded"):
        list(Endpoint(server.url, "m", attempts=3).complete(bodies("down")))
    assert server.attempts["down"] == 3


def test_a_wrong_key_or_address_is_an_error_at_once(server: Server) -> None:
    with pytest.raises(EndpointError, match=r"model m: 401 .*no such key"):
        list(Endpoint(server.url, "m").complete(bodies("key")))
    with pytest.raises(EndpointError, match="404"):
        list(Endpoint(f"{server.url}/elsewhere", "m").complete(bodies("fine")))
    assert server.attempts == {"key": 1, "fine": 1}
    with pytest.raises(EndpointError, match="gave up after 2 attempts"):
        list(Endpoint("http://127.0.0.1:9/v1", "m", attempts=2).complete(bodies("nobody listens")))
    with pytest.raises(EndpointError, match="is no URL"):
        list(Endpoint("no url", "m").complete(bodies("fine")))


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(MlcError, match="set the environment variable SOME_KEY"):
        Endpoint(server.url, "m", "SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "sesame")
    list(Endpoint(server.url, "m", "SOME_KEY").complete(bodies("fine")))
    assert server.keys == {"Bearer sesame"}


def test_stopping_early_asks_no_more(server: Server) -> None:
    answers = Endpoint(server.url, "m", concurrency=2).complete(bodies(*(f"{i}" for i in range(50))))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    asked = len(server.bodies)
    time.sleep(0.1)
    assert len(server.bodies) == asked < 10
