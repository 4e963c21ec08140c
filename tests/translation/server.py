"""A chat completions endpoint on loopback that does as it is told, and writes down what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Behaviour = Callable[[str, int], str]  # of a text and how often it was asked before: what to do


class LoggedRequest(NamedTuple):
    """One request: its text and target, what was done, when, and its body and headers."""

    text: str
    target: str
    done: str
    at: float
    body: dict[str, Any]
    headers: dict[str, str]


def shout(text: str, target: str) -> str:
    return f"{target}: {text.upper()}"


class Endpoint(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour: Behaviour = lambda _, __: "good", seconds: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour, self.seconds = behaviour, seconds
        self.log: list[LoggedRequest] = []
        self.tries: dict[tuple[str, str], int] = defaultdict(int)
        self.busy = self.busiest = 0
        self.billed = [0, 0]  # prompt and completion tokens
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Says nothing of clients that went away: that is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def kinds(self) -> Counter[str]:
        return Counter(request.done for request in self.log)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = json.loads(body["messages"][1]["content"])
        text, target = data["text"], data["to"].rpartition("(")[2].rstrip(")")
        with server.lock:
            what = server.behaviour(text, server.tries[text, target])
            server.tries[text, target] += 1
            server.log.append(LoggedRequest(text, target, what, time.monotonic(), body, dict(self.headers)))
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        try:
            time.sleep(server.seconds)
            self.reply(what, text, target, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.busy -= 1

    def reply(self, what: str, text: str, target: str, body: dict[str, Any]) -> None:
        good = json.dumps({"translation": shout(text, target)}, ensure_ascii=False)
        if what == "stall":
            self.server.stopping.wait(60)
        elif what == "drip":  # a byte now and then, for ever
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not self.server.stopping.wait(0.05):
                self.wfile.write(b" ")
        elif what == "break":
            self.close_connection = True
            self.connection.close()
        elif what == "half":  # the connection ends in the middle of the reply
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif what.isdecimal() or ":" in what:
            status, _, header = what.partition(":")
            key = self.headers.get("Authorization", "")
            self.send(int(status), {"error": {"message": f"this is {status} for {key}"}}, header)
        elif what == "page":
            self.send(200, "<html>welcome</html>")
        elif what == "nothing":
            self.send(200, {"object": "list"})
        else:
            answers = {
                "chatter": f"Sure, here is the translation:\n\n{good}",
                "chatter-inside": json.dumps({"translation": f"Sure, here is the translation: {shout(text, target)}"}),
                "plain": shout(text, target),
                "fenced": f"```json\n{good}\n```",
                "refusal": "I'm sorry, but I can't help with that.",
                "refusal-inside": '{"translation": "I\'m sorry, but I can\'t help with that."}',
                "empty": "",
                "same": json.dumps({"translation": text}),
                "list": json.dumps([shout(text, target)]),
                "number": '{"translation": 3}',
                "more": json.dumps({"translation": shout(text, target), "note": "informal"}),
                "truncated": good[: len(good) // 2],
                "lossy": json.dumps({"translation": "siku chache"}),
            }
            content = answers.get(what, good)
            ending = {"truncated": "length", "filtered": "content_filter"}.get(what, "stop")
            message = {"role": "assistant", "content": content}
            if what == "refused":
                message |= {"content": None, "refusal": "no"}
            tokens = len(json.dumps(body["messages"])) // 3, len(content) // 2 + 1
            with self.server.lock:
                self.server.billed = [a + b for a, b in zip(self.server.billed, tokens, strict=True)]
            reply = {"choices": [{"message": message, "finish_reason": ending}]}
            if what != "no-usage":
                reply |= {"usage": dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True))}
            self.send(200, reply)

    def send(self, status: int, reply: Any, retry_after: str = "") -> None:
        text = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(text)
