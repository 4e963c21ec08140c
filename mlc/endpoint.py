"""An OpenAI-compatible endpoint: many requests at a time, retried, each answered as soon as it can be.

Hosted ones, vLLM, llama.cpp, and most others. Replies, judgements and translations are asked for through it; what an
answer is worth, and when to give up, differs between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx
import regex
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from mlc.errors import MlcError
from mlc.text import without_secrets

T = TypeVar("T")
R = TypeVar("R")
FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_WAIT = 300.0  # of a wait that the endpoint asks for, too
CONNECT = 30.0  # seconds to wait for a connection
REFUSED = {400, 413, 422}  # statuses that are about one request alone: too long for the model, or filtered
BODY = "the setting `body` sets fields of each request, and null leaves one out"
HARMLESS = {"role": "user", "content": "How do I bake bread?"}
# What could be taken for a tag or a control token by whoever serves the model, and what cannot be seen.
_ESCAPED = regex.compile(r"[<>|\[\]\p{C}\p{Zl}\p{Zp}]")


class Completion(NamedTuple):
    """An answer: ``finish_reason`` and token counts as the endpoint gives them; ``model`` and ``fingerprint``
    (``system_fingerprint``) are what it says it ran; ``seconds`` from its last attempt's start to the whole answer.
    ``reasoning`` is the model's thinking, where the endpoint gives it apart from the answer."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    fingerprint: str | None
    seconds: float
    reasoning: str | None = None


class Refused(NamedTuple):
    """The endpoint will not answer this one request: too long for it, or filtered. Others would be answered."""

    reason: str


class EndpointError(MlcError):
    """The endpoint cannot be used at all: wrong URL, key or model, or it is still out of order after all attempts."""


class Unanswered(Exception):
    """An attempt that got no answer, for a ``reason``. Another one may get one; ``wait`` is how many seconds the
    endpoint asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Rejected(Exception):
    """The endpoint rejects a request with a ``status``; another attempt would meet the same."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class Meter(Protocol):
    """Counts what requests cost, and may hold them back."""

    async def reserve(self, body: Mapping[str, Any]) -> float:
        """Waits until the request may be sent; returns the most that it can cost."""

    def settle(self, most: float, usage: Any) -> None:
        """Takes what the endpoint reports as used: its ``usage``, 0 for nothing, None where nobody reports it."""


class Endpoint:
    """An endpoint and the model that is asked for there.

    Args:
        url: what ``/chat/completions`` is appended to, such as ``http://localhost:8000/v1``.
        key_variable: the environment variable that holds the key, if one is needed. Keys are in no file.
        concurrency: requests under way at once. timeout: seconds for one of them. attempts: of each, before giving up.
        tolerated: requests in a row that may be given up as ``Refused``; one more, and the endpoint is out of order.
        extra: fields of every body to replace, or with null to leave out (:func:`with_fields`).
        meter: what to ask before, and tell after, each attempt.

    Raises:
        MlcError: the variable is not set.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str | None = None,
        *,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 6,
        tolerated: int = 0,
        extra: Mapping[str, Any] | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self.attempts = attempts
        self._key = os.environ.get(key_variable, "").strip() if key_variable else ""
        if key_variable and not self._key:
            raise MlcError(
                f"{url} needs a key, and there is no such variable: set the environment variable {key_variable} to it"
            )
        self._concurrency = concurrency
        self._timeout = timeout
        self._tolerated = tolerated
        self._meter = meter
        self._extra = extra or {}
        self._works = False  # has it answered anything?
        self._given_up = 0  # in a row
        self._resume_at = 0.0  # until then nobody sends: the endpoint asked one of us to wait

    def complete(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Completion | Refused]]:
        """Yields each request's index with its answer, in the order in which they are done.

        Args:
            requests: bodies without the model: ``messages``, and ``temperature``, ``seed``, ``max_tokens`` and so on.

        Raises:
            EndpointError: the endpoint cannot be used. What is under way is cancelled, as when this is closed early.
        """

        async def one(client: httpx.AsyncClient, request: tuple[int, Mapping[str, Any]]) -> Any:
            index, body = request
            return index, await self._completion(client, with_fields({"model": self.model, **body}, self._extra))

        return self.run(enumerate(requests), one)

    def run(
        self,
        requests: Iterable[T],
        one: Callable[[httpx.AsyncClient, T], Coroutine[Any, Any, R]],
        drain: type[Exception] | None = None,
    ) -> Iterator[R]:
        """Yields the result of ``one`` for each request as it is there, ``concurrency`` of them under way at once.

        An exception ends it, and what is under way is cancelled, as when this is closed early; after one of the type
        ``drain`` what is under way may end first.
        """
        waiting = iter(requests)
        running: set[asyncio.Task[R]] = set()
        done: set[asyncio.Task[R]] = set()
        last: Exception | None = None
        # Between two results the loop stands still; it is the consumer's turn, for a moment.
        with asyncio.Runner() as runner:
            client = runner.run(self._client())
            try:
                while True:
                    if last is None:
                        free = self._concurrency - len(running)
                        loop = runner.get_loop()
                        running |= {loop.create_task(one(client, r)) for r in islice(waiting, free)}
                    if not running:
                        break
                    done, running = runner.run(_first(running))
                    for task in done:
                        try:
                            yield task.result()
                        except Exception as error:
                            if drain is None or not isinstance(error, drain):
                                raise
                            last = last or error
            finally:
                runner.run(_end(client, running | done))
        if last is not None:
            raise last

    async def attempt(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Any:
        """Sends a request once: the JSON of the answer; its cost is settled in any case.

        Raises:
            Unanswered: there is no answer, or one without JSON; another attempt may get one.
            Rejected: the endpoint rejects the request.
            EndpointError: the URL is none.
        """
        while (pause := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        most = await self._meter.reserve(body) if self._meter else 0.0
        usage: Any = None
        try:
            # httpx's own timeout is between two bytes: an endpoint that drips is stuck too.
            async with asyncio.timeout(self._timeout):
                response = await client.post(f"{self.url}/chat/completions", json=dict(body))
            if response.status_code in range(400, 500):
                usage = 0
            answer = self._read(response)
            usage = answer.get("usage") if isinstance(answer, dict) else None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            usage = 0
            raise EndpointError(f"{self.url} is no URL: {error}") from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            usage = 0
            raise Unanswered(f"no connection: {error or type(error).__name__}") from None
        except (httpx.TimeoutException, TimeoutError):
            raise Unanswered(f"no answer within {self._timeout:g} s") from None
        except httpx.TransportError as error:
            raise Unanswered(f"the connection broke: {error or type(error).__name__}") from None
        finally:
            if self._meter:
                self._meter.settle(most, usage)
        return answer

    async def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(self._timeout, connect=min(CONNECT, self._timeout)),
            limits=httpx.Limits(max_connections=self._concurrency),
            verify=self.url.startswith("https:"),  # a plain address needs no certificates to be loaded
        )

    def _read(self, response: httpx.Response) -> Any:
        """The JSON of a good response; what another one says is the reason."""
        status = response.status_code
        if status == 200:
            try:
                return response.json()
            except ValueError:
                raise Unanswered("HTTP 200 with a body that is not JSON") from None
        reason = f"HTTP {status}: {self._error_message(response)}"
        if status not in (408, 409, 425, 429) and status < 500:
            raise Rejected(reason, status)
        wait = retry_after(response.headers.get("Retry-After", ""))
        if wait <= LONGEST_WAIT:
            self._resume_at = max(self._resume_at, time.monotonic() + wait)
        raise Unanswered(f"{reason} (asks to wait {wait:.0f} s)" if wait else reason, wait)

    def _error_message(self, response: httpx.Response) -> str:
        """The endpoint's own words, short, and without the key in case it repeats it."""
        message: Any = response.text
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = json.loads(message)["error"]["message"]
        message = without_secrets(str(message), {"key": self._key})  # before it is cut
        return " ".join(message.split())[:200] or response.reason_phrase

    async def _completion(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Completion | Refused:
        """The answer to one request, after as many attempts as it takes."""

        async def timed() -> Completion | Refused:
            started = time.perf_counter()
            answer = await self.attempt(client, body)
            return _completion(answer, time.perf_counter() - started)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unanswered),
            stop=stop_after_attempt(self.attempts),
            wait=_wait,
            reraise=True,
        )
        try:
            completion: Completion | Refused = await retrying(timed)
        except Rejected as error:
            if error.status in REFUSED and (self._works or await self._answers(client, body)):
                return Refused(str(error))
            too = f", and to a harmless request with the same fields: {BODY}" if error.status in REFUSED else ""
            raise EndpointError(f"{self.url}, model {self.model}: {error}{too}") from None
        except Unanswered as error:
            self._given_up += 1
            given_up = f"gave up after {self.attempts} attempts: {error}"
            if self._given_up <= self._tolerated:
                return Refused(given_up)
            raise EndpointError(f"{self.url}: {given_up}") from None
        self._given_up, self._works = 0, True
        return completion

    async def _answers(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> bool:
        """Whether a request with the same fields and a harmless message is answered: is it the message, or a field?"""
        try:
            await self.attempt(client, {**body, "messages": [HARMLESS]})
            self._works = True
        except (Rejected, Unanswered):
            return False
        return True


def with_fields(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A request body with the fields of ``extra`` in place of its own; null takes a field away."""
    return {name: value for name, value in {**body, **extra}.items() if value is not None}


async def _first(tasks: set[asyncio.Task[R]]) -> tuple[set[asyncio.Task[R]], set[asyncio.Task[R]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _end(client: httpx.AsyncClient, tasks: set[asyncio.Task[R]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()


def _completion(answer: Any, seconds: float) -> Completion | Refused:
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text, thought = _texts(choice["message"])
        return Completion(
            text=text,
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            model=str(answer.get("model")),
            fingerprint=answer.get("system_fingerprint"),
            seconds=seconds,
            reasoning=thought,
        )
    except (LookupError, TypeError, AttributeError):
        return Refused(f"no chat completion: {' '.join(json.dumps(answer, ensure_ascii=False)[:200].split())}")


def _texts(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """The answer, and the thinking that the endpoint gives apart from it: in a field of its own (vLLM, SGLang, DeepSeek
    and others), or among parts of the content (Mistral)."""
    content = message.get("content") or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        thoughts = [_part(part["thinking"]) for part in parts if "thinking" in part]
        content, thought = _part([p for p in parts if "thinking" not in p]), "".join(thoughts) if thoughts else thought
    return str(content), thought if isinstance(thought, str) else None


def _part(part: Any) -> str:
    """The text in a part of a content, or in several."""
    if isinstance(part, list):
        return "".join(map(_part, part))
    return str(part.get("text") or "") if isinstance(part, dict) else str(part)


def retry_after(header: str) -> float:
    """Seconds that a ``Retry-After`` header asks for, given as seconds or as a date; 0 without one."""
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return wait if wait > 0 else 0.0  # also for a nan


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    server_wait = min(LONGEST_WAIT, error.wait) if isinstance(error, Unanswered) else 0.0
    return max(server_wait, wait_exponential_jitter(FIRST_WAIT, max=60, jitter=FIRST_WAIT)(state))


def fenced(name: str, data: Mapping[str, str], nonce: str) -> str:
    """Texts of others between tags that nobody can have foreseen, as JSON without a tag or control token in it."""
    text = _ESCAPED.sub(_escape, json.dumps(dict(data), ensure_ascii=False))
    return f"<{name} {nonce}>\n{text}\n</{name} {nonce}>"


def _escape(match: regex.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
