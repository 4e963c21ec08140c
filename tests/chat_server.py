"""A server that speaks OpenAI's chat completions on loopback, and fails as endpoints do."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Says the last message back in capitals. What the message begins with decides what goes wrong first.

    ``serves``: the only model there is; None answers for any, and calls it ``served``. ``unknown_field``: a
    request with it is rejected.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, serves: str | None = None, unknown_field: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.serves = serves
        self.unknown_field = unknown_field
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
        elif self.server.serves not in (None, body["model"]):
            self._send(404, {"error": f"the model {body['model']} does not exist"})
        elif self.server.unknown_field in body:
            self._send(400, {"error": {"message": f"Unsupported parameter: {self.server.unknown_field}"}})
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
            self._send(401, {"error": f"no such key: {self.headers.get('Authorization')}"})
        elif text.startswith("dripping"):
            self._drip()
        else:
            choice: dict[str, Any] = {"message": {"content": text.upper()}, "finish_reason": "stop"}
            if text.startswith("thinks apart"):
                choice["message"]["reasoning_content"] = "who asks?"
            elif text.startswith("thinks in parts"):
                thought = {"type": "thinking", "thinking": [{"type": "text", "text": "who asks?"}]}
                choice["message"]["content"] = [thought, {"type": "text", "text": text.upper()}]
            elif text.startswith("thinks for ever"):
                choice = {"message": {"content": None, "reasoning_content": "who asks?"}, "finish_reason": "length"}
            elif text.startswith("thinks in line"):
                choice["message"]["content"] = f"<think>\nwho asks?\n</think>\n\n{text.upper()}"
            usage: dict[str, int] | None = {"prompt_tokens": 3, "completion_tokens": 2}
            if text.startswith("cut off"):  # at two tokens; or so that nobody can tell
                choice["finish_reason"] = {"by length": "length", "by filter": "content_filter"}.get(text[8:])
                usage = None if text.endswith("unknown") else usage
            model = self.server.serves or "served"
            self._send(200, {"choices": [choice], "usage": usage, "model": model, "system_fingerprint": "f1"})

    def _send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drip(self) -> None:
        """A byte now and then, so that no single read takes long."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(serves: str | None = None, unknown_field: str | None = None) -> Iterator[Server]:
    """A server that answers for as long as the context lasts."""
    with Server(serves, unknown_field) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
