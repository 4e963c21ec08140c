"""Translation by a language model behind any endpoint that speaks OpenAI's chat completions.

An unfit answer is a try like any other, and one text that gets no answer is its own failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from mlc.endpoint import LONGEST_WAIT, Endpoint, Rejected, Unanswered
from mlc.errors import MlcError
from mlc.translation import Request, Result, Stopped, answers
from mlc.translation.answers import Unfit
from mlc.translation.spending import Price, Spending

_HOPELESS = {401, 402, 404}  # key, money, address or model: no text will do better
_DOWN = 10  # texts in a row that got no answer for all tries, after which the endpoint is taken for down
_UNWILLING = 100  # texts in a row that it rejected: it may filter harmful ones, with 400 or 403, and translate others


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
        self._model, self._extra = model, extra or {}
        self.name, self.licence = model, None  # an endpoint does not say
        self.version = f"{address.netloc.decode()}{address.path} {answers.version(self._extra)}"
        self.spending = spending or Spending(Price(0, 0), None)
        self.spending.most(answers.body(model, Request("", "en", "en"), 0, self._extra))  # is there a most?
        self._endpoint = Endpoint(
            str(address),
            model,
            key_variable,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            meter=self.spending,
        )
        self._in_a_row = 0

    def check(self, pairs: set[tuple[str, str]]) -> None:
        """Nothing: an endpoint does not say which languages its model knows."""

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        # What is in flight when it stops is paid for: it may end.
        return self._endpoint.run(requests, self._one, drain=Stopped)

    async def _one(self, client: httpx.AsyncClient, request: Request) -> Result:
        """The result of one text: all of its tries."""
        unfit = 0
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_may_work_again),
                wait=_wait,
                stop=stop_after_attempt(self._endpoint.attempts),
                reraise=True,
            ):
                with attempt:
                    body = answers.body(self._model, request, unfit, self._extra)
                    try:
                        text = answers.translation(await self._endpoint.attempt(client, body), request)
                    except Unfit:
                        unfit += 1
                        raise
        except Unfit as error:
            self._in_a_row = 0
            return Result(request, failure=str(error))
        except (Rejected, Unanswered) as error:
            if isinstance(error, Rejected) and error.status in _HOPELESS:
                raise Stopped(f"{self._endpoint.url}: {error}") from None
            self._in_a_row += 1
            if self._in_a_row >= (_DOWN if isinstance(error, Unanswered) else _UNWILLING):
                message = f"{self._in_a_row} texts in a row got no answer: {error}"
                raise Stopped(f"{self._endpoint.url}: {message}") from None
            return Result(request, failure=str(error))
        self._in_a_row = 0
        return Result(request, text)


def _may_work_again(error: BaseException) -> bool:
    return isinstance(error, Unfit) or (isinstance(error, Unanswered) and error.wait <= LONGEST_WAIT)


_backoff = wait_random_exponential(multiplier=1, max=60)


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: none after an unfit answer, else what was asked for, or longer and longer."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Unanswered):
        return 0.0
    return max(error.wait, float(_backoff(state)))
