"""Chat completions of any OpenAI-compatible endpoint: many at a time, retried, each as soon as it is there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from mlc.errors import MlcError

FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_WAIT = 300.0  # of a wait that the endpoint asks for, too


class Completion(NamedTuple):
    """An answer: ``finish_reason`` and token counts as the endpoint gives them; ``model`` and ``fingerprint``
    (``system_fingerprint``) are what it says it ran; ``seconds`` from its last attempt's start to the whole answer."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    fingerprint: str | None
    seconds: float


class Refused(NamedTuple):
    """The endpoint will not answer this one request: too long for it, or filtered. Others may well be answered."""

    reason: str


class EndpointError(MlcError):
    """The endpoint cannot be used at all: wrong URL, key or model, or it is still out of order after all attempts."""


class _Passing(Exception):
    """A fault that may pass; ``wait`` is how many seconds the endpoint asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Endpoint:
    """An endpoint and the model that is asked for there.

    Args:
        url: what ``/chat/completions`` is appended to, such as ``http://localhost:8000/v1``.
        key_variable: the environment variable that holds the key, if one is needed. Keys are in no file.
        concurrency: requests under way at once. timeout: seconds for one of them. attempts: of each, before giving up.
        tolerated: requests in a row that may be given up as ``Refused``; one more, and the endpoint is out of order.

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
    ) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self._key = os.environ.get(key_variable, "").strip() if key_variable else ""
        if key_variable and not self._key:
            raise MlcError(f"{url} needs a key: set the environment variable {key_variable} to it")
        self._concurrency = concurrency
        self._timeout = timeout
        self._attempts = attempts
        self._tolerated = tolerated
        self._given_up = 0  # in a row
        self._resume_at = 0.0  # until then nobody sends: the endpoint asked one of us to wait

    def complete(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Completion | Refused]]:
        """Yields each request's index with its answer, in the order in which they are done.

        Args:
            requests: bodies without the model: ``messages``, and ``temperature``, ``seed``, ``max_tokens`` and so on.

        Raises:
            EndpointError: the endpoint cannot be used. What is under way is cancelled, as when this is closed early.
        """
        with asyncio.Runner() as runner:
            answers = self._answers(requests)

            async def following() -> tuple[int, Completion | Refused] | None:
                return await anext(answers, None)

            while (answer := runner.run(following())) is not None:
                yield answer

    async def _answers(self, requests: Iterable[Mapping[str, Any]]) -> AsyncIterator[tuple[int, Completion | Refused]]:
        waiting = enumerate(requests)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self._concurrency)
        async with httpx.AsyncClient(headers=headers, timeout=self._timeout, limits=limits) as client:

            async def answer(index: int, body: Mapping[str, Any]) -> tuple[int, Completion | Refused]:
                return index, await self._answer(client, body)

            running: set[asyncio.Task[tuple[int, Completion | Refused]]] = set()
            while True:
                free = self._concurrency - len(running)
                running |= {asyncio.create_task(answer(i, body)) for i, body in islice(waiting, free)}
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()

    async def _answer(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Completion | Refused:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Passing), stop=stop_after_attempt(self._attempts), wait=_wait, reraise=True
        )
        try:
            answer: Completion | Refused = await retrying(self._attempt, client, body)
        except _Passing as error:
            self._given_up += 1
            given_up = f"gave up after {self._attempts} attempts: {error}"
            if self._given_up <= self._tolerated:
                return Refused(given_up)
            raise EndpointError(f"{self.url}: {given_up}") from None
        self._given_up = 0
        return answer

    async def _attempt(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Completion | Refused:
        while (pause := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        started = time.perf_counter()
        try:
            # httpx's own timeout is between two bytes: an endpoint that drips is stuck too.
            async with asyncio.timeout(self._timeout):
                response = await client.post(f"{self.url}/chat/completions", json={"model": self.model, **body})
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise EndpointError(f"{self.url} is no URL: {error}") from None
        except (httpx.TimeoutException, TimeoutError):
            raise _Passing(f"no answer within {self._timeout:g} s") from None
        except httpx.TransportError as error:
            raise _Passing(str(error) or type(error).__name__) from None
        said = f"{response.status_code} {' '.join(response.text.split())[:200]}"
        if self._key:
            said = said.replace(self._key, "***")
        if response.status_code in (408, 409, 425, 429) or response.status_code >= 500:
            wait = min(LONGEST_WAIT, retry_after(response.headers.get("Retry-After", "")))
            self._resume_at = max(self._resume_at, time.monotonic() + wait)
            raise _Passing(said, wait)
        if response.status_code in (400, 413, 422):
            return Refused(said)
        if response.status_code != 200:
            raise EndpointError(f"{self.url}, model {self.model}: {said}")
        return _completion(response, time.perf_counter() - started)


def _completion(response: httpx.Response, seconds: float) -> Completion | Refused:
    try:
        answer = response.json()
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        return Completion(
            text=choice["message"].get("content") or "",
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            model=str(answer.get("model")),
            fingerprint=answer.get("system_fingerprint"),
            seconds=seconds,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return Refused(f"no chat completion: {' '.join(response.text[:200].split())}")


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
    asked = error.wait if isinstance(error, _Passing) else 0.0
    return max(asked, wait_exponential_jitter(FIRST_WAIT, max=60, jitter=FIRST_WAIT)(state))
