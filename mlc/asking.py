"""Asking an endpoint about texts: again while its answer is unfit, and until it is clear that it answers nothing.

An unfit answer is a try like any other, and one text that gets no answer is its own failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from mlc.endpoint import LONGEST_WAIT, Endpoint, Rejected, Unanswered
from mlc.errors import MlcError
from mlc.spending import LimitReached

T = TypeVar("T")
R = TypeVar("R")
_HOPELESS = {401, 402, 404}  # key, money, address or model: no text will do better
_DOWN = 10  # texts in a row that got no answer for all tries, after which the endpoint is taken for down
_UNWILLING = 100  # texts in a row that it rejected: it may filter harmful ones, with 400 or 403, and answer others


class Unfit(Exception):
    """An answer that is not what was asked for, with the reason."""


class Question(NamedTuple, Generic[R]):
    """A request's body, and what reads the reply; it raises ``Unfit``."""

    body: dict[str, Any]
    read: Callable[[Any], R]


class Answer(NamedTuple, Generic[T, R]):
    """What was read, or else the reason why nothing was; exactly one of them is given."""

    item: T
    value: R | None = None
    failure: str | None = None


class Asking(Generic[T, R]):
    """Asks about many things at once.

    Args:
        question: of a thing and how many unfit answers there were about it.
        stopped: what is raised when no other text will do better: the money is spent, the endpoint refuses or is down.
    """

    def __init__(
        self, endpoint: Endpoint, question: Callable[[T, int], Question[R]], stopped: type[MlcError] = MlcError
    ) -> None:
        self._endpoint, self._question, self._stopped = endpoint, question, stopped
        self._in_a_row = 0

    def answers(self, items: Iterable[T]) -> Iterator[Answer[T, R]]:
        """Yields one answer per item in the order in which they are there, unless it raises ``stopped``."""
        # What is in flight when it stops is paid for: it may end.
        return self._endpoint.run(items, self._one, drain=self._stopped)

    async def _one(self, client: httpx.AsyncClient, item: T) -> Answer[T, R]:
        """The answer about one thing: all of its tries."""
        unfit = 0
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_may_work_again),
                wait=_wait,
                stop=stop_after_attempt(self._endpoint.attempts),
                reraise=True,
            ):
                with attempt:
                    question = self._question(item, unfit)
                    try:
                        value = question.read(await self._endpoint.attempt(client, question.body))
                    except Unfit:
                        unfit += 1
                        raise
        except Unfit as error:
            self._in_a_row = 0
            return Answer(item, failure=str(error))
        except LimitReached as error:
            raise self._stopped(str(error)) from None
        except (Rejected, Unanswered) as error:
            if isinstance(error, Rejected) and error.status in _HOPELESS:
                raise self._stopped(f"{self._endpoint.url}: {error}") from None
            self._in_a_row += 1
            if self._in_a_row >= (_DOWN if isinstance(error, Unanswered) else _UNWILLING):
                message = f"{self._in_a_row} texts in a row got no answer: {error}"
                raise self._stopped(f"{self._endpoint.url}: {message}") from None
            return Answer(item, failure=str(error))
        self._in_a_row = 0
        return Answer(item, value)


def _may_work_again(error: BaseException) -> bool:
    return isinstance(error, Unfit) or (isinstance(error, Unanswered) and error.wait <= LONGEST_WAIT)


_backoff = wait_random_exponential(multiplier=1, max=60)


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: none after an unfit answer, else what was asked for, or longer and longer."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Unanswered):
        return 0.0
    return max(error.wait, float(_backoff(state)))


def content(reply: Any) -> str:
    """The whole text of a chat completion.

    Raises:
        Unfit: it was cut off, filtered or refused, is empty, or is no chat completion.
    """
    try:
        choice = reply["choices"][0]
        message, ending = choice["message"], choice.get("finish_reason")
        text = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unfit("not a chat completion") from None
    if ending == "length":
        raise Unfit("truncated")
    if ending == "content_filter":
        raise Unfit("content filter")
    if message.get("refusal"):
        raise Unfit("refused")
    if not isinstance(text, str) or not text.strip():
        raise Unfit("empty")
    return text
