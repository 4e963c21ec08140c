"""Any endpoint that speaks OpenAI's chat completions: hosted ones, vLLM, llama.cpp, and most others.

Not by way of ``mlc.endpoint``: here each try has a price, reserved before it and settled after it, an unfit answer is a
try like any other, and one text that gets no answer is its own failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from mlc.endpoint import LONGEST_WAIT, retry_after
from mlc.errors import MlcError
from mlc.translation import Request, Result, Stopped, answers
from mlc.translation.answers import Unfit
from mlc.translation.spending import Price, Spending

_HOPELESS = {401, 402, 404}  # key, money, address or model: no text will do better
_DOWN = 10  # texts in a row that got no answer for all tries, after which the endpoint is taken for down
_UNWILLING = 100  # texts in a row that it rejected: it may filter harmful ones, with 400 or 403, and translate others


class _Unanswered(Exception):
    """A request that got no answer; ``wait`` is the seconds that the endpoint asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Passing(_Unanswered):
    """No answer, but another try may get one: a timeout, a rate limit, an error of the server's."""


class EndpointTranslator:
    """A language model behind an HTTP address.

    Args:
        base_url: the address up to ``/chat/completions``.
        model: as the endpoint calls it.
        key_variable: the environment variable that holds the API key; none sends none. The key goes nowhere else.
        concurrency: requests in flight at most. timeout: seconds for one request.
        attempts: tries per text, whether it got no answer or an unfit one.
        spending: what it may cost. extra: fields of the request body to replace, or with null to leave out.

    Raises:
        MlcError: the address is none, the variable is not set, or spending is limited and answers are not.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 5,
        spending: Spending | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        address = httpx.URL(base_url.rstrip("/"))
        if address.scheme not in ("http", "https") or not address.host:
            raise MlcError(f"--base-url {base_url}: give an address such as https://host/v1")
        if address.userinfo or address.query:
            raise MlcError("--base-url holds a password or a query: give the key by --api-key-variable")
        self._key = ""
        if key_variable is not None:
            self._key = os.environ.get(key_variable, "").strip()
            if not self._key:
                raise MlcError(f"--api-key-variable {key_variable}: the environment has no such variable")
        self._url = f"{address}/chat/completions"
        self._model, self._extra = model, extra or {}
        self.name = model
        self.version = f"{address.netloc.decode()}{address.path} {answers.version(self._extra)}"
        self._concurrency, self._timeout, self._attempts = concurrency, timeout, attempts
        self.spending = spending or Spending(Price(0, 0), None)
        self.spending.most(answers.body(model, Request("", "en", "en"), 0, self._extra))  # is there a most?
        self._resume_at = 0.0  # until then, nobody sends: the endpoint asked one of us to wait
        self._in_a_row = 0

    def check(self, pairs: set[tuple[str, str]]) -> None:
        """Nothing: an endpoint does not say which languages its model knows."""

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        waiting = iter(requests)
        running: set[asyncio.Task[Result]] = set()
        stopped: Stopped | None = None
        # Between two results the loop stands still; it is the consumer's turn, for a moment.
        with asyncio.Runner() as loop:
            client = loop.run(self._client())
            try:
                while True:
                    while stopped is None and len(running) < self._concurrency and (new := next(waiting, None)):
                        running.add(loop.get_loop().create_task(self._one(client, new)))
                    if not running:
                        break
                    done, running = loop.run(_first(running))
                    for task in done:
                        try:
                            yield task.result()
                        except Stopped as error:  # what is in flight is paid for: it may end
                            stopped = stopped or error
            finally:
                loop.run(_end(client, running))
        if stopped is not None:
            raise stopped

    async def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(self._timeout, connect=min(30.0, self._timeout)),
            limits=httpx.Limits(max_connections=self._concurrency),
            verify=self._url.startswith("https:"),  # a plain address needs no certificates to be loaded
        )

    async def _one(self, client: httpx.AsyncClient, request: Request) -> Result:
        """The result of one text: all of its tries."""
        unfit = 0
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type((_Passing, Unfit)),
                wait=_wait,
                stop=stop_after_attempt(self._attempts),
                reraise=True,
            ):
                with attempt:
                    try:
                        text = await self._try(client, request, unfit)
                    except Unfit:
                        unfit += 1
                        raise
        except Unfit as error:
            self._in_a_row = 0
            return Result(request, failure=str(error))
        except _Unanswered as error:
            self._in_a_row += 1
            if self._in_a_row >= (_DOWN if isinstance(error, _Passing) else _UNWILLING):
                raise Stopped(f"{self._url}: {self._in_a_row} texts in a row got no answer: {error}") from None
            return Result(request, failure=str(error))
        self._in_a_row = 0
        return Result(request, text)

    async def _try(self, client: httpx.AsyncClient, request: Request, unfit: int) -> str:
        """Sends one request and reads its answer; its cost is settled in any case."""
        while (pause := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        body = answers.body(self._model, request, unfit, self._extra)
        most = self.spending.most(body)
        await self.spending.reserve(most)
        usage: Any = None
        try:
            # httpx's timeout is between two bytes; an endpoint that drips is stuck too.
            async with asyncio.timeout(self._timeout):
                response = await client.post(self._url, json=body)
            if response.status_code in range(400, 500):
                usage = 0
            reply = self._read(response)
            usage = reply.get("usage") if isinstance(reply, dict) else None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            usage = 0
            raise _Passing(f"no connection: {error or type(error).__name__}") from None
        except (httpx.TimeoutException, TimeoutError):
            raise _Passing(f"no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _Passing(f"the connection broke: {error or type(error).__name__}") from None
        finally:
            self.spending.settle(most, usage)
        return answers.translation(reply, request)

    def _read(self, response: httpx.Response) -> Any:
        """The reply of a good response; what another one says is the reason."""
        status = response.status_code
        if status == 200:
            try:
                return response.json()
            except ValueError:
                raise _Passing("HTTP 200 with a body that is not JSON") from None
        reason = f"HTTP {status}: {self._said(response)}"
        if status in _HOPELESS:
            raise Stopped(f"{self._url}: {reason}")
        if status not in (408, 429) and status < 500:
            raise _Unanswered(reason)
        wait = retry_after(response.headers.get("retry-after", ""))
        if wait > LONGEST_WAIT:
            raise _Unanswered(f"{reason} (asks to wait {wait:.0f} s)")
        self._resume_at = max(self._resume_at, time.monotonic() + wait)
        raise _Passing(reason, wait)

    def _said(self, response: httpx.Response) -> str:
        """The endpoint's own words, short, and without the key in case it repeats it."""
        said: Any = response.text
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(said)["error"]["message"]
        said = " ".join(str(said).split())[:200] or response.reason_phrase
        return str(said.replace(self._key, "***") if self._key else said)


async def _first(tasks: set[asyncio.Task[Result]]) -> tuple[set[asyncio.Task[Result]], set[asyncio.Task[Result]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _end(client: httpx.AsyncClient, running: set[asyncio.Task[Result]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await client.aclose()


_backoff = wait_random_exponential(multiplier=1, max=60)


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: none after an unfit answer, else what was asked for, or longer and longer."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, _Passing):
        return 0.0
    return max(error.wait, float(_backoff(state)))
