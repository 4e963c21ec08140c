"""An endpoint on loopback that marks errors of translations as a model would that knows the right ones."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Model = Callable[[dict[str, Any]], str]


class Asked(NamedTuple):
    """The number in the instructions, and the pair, as a careful model reads them."""

    nonce: str
    source: str
    translation: str


def asked(body: dict[str, Any]) -> Asked:
    system, user = (message["content"] for message in body["messages"])
    nonce = re.search(r"</pair (\w+)>", system)[1]  # type: ignore[index]
    data = re.fullmatch(rf"<pair {nonce}>\n(.*)\n</pair {nonce}>", user)
    assert data is not None
    pair = json.loads(data[1])
    return Asked(nonce, pair["source"], pair["translation"])


def answer(nonce: str, *errors: tuple[str, str, str], **more: Any) -> str:
    """Errors as (text, span, severity)."""
    marked = [{"text": t, "span": s, "category": "mistranslation", "severity": v} for t, s, v in errors]
    return json.dumps({"nonce": nonce, "errors": marked} | more)


def knowing(right: Mapping[str, set[str]]) -> Model:
    """Knows which translations a source text has: another one is another request, and a negation is a major error."""

    def model(body: dict[str, Any]) -> str:
        nonce, source, translation = asked(body)
        if source not in right:
            return answer(nonce, ("source", "not", "major"))
        if translation in right[source]:
            return answer(nonce)
        return answer(nonce, ("translation", translation, "critical"))

    return model


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.bodies, self.status, self.finish = model, list[dict[str, Any]](), 200, "stop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        choice = {"message": {"content": self.server.model(body)}, "finish_reason": self.server.finish}
        usage = {"prompt_tokens": 500, "completion_tokens": 50}
        content = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(model: Model) -> Iterator[Server]:
    with Server(model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
