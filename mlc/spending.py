"""A limit on what a run may cost, which holds whatever the endpoint does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlc.errors import MlcError

_PER_MESSAGE = 64  # tokens a chat template may put around each message, generously


class LimitReached(MlcError):
    """The next request may cost more than is left."""


class Price(NamedTuple):
    """Currency units per million tokens."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class Spending:
    """What was spent, and what may be: each request reserves the most that it can cost before it is sent.

    The most is a token per byte of the request and all the tokens the answer may have. What is reported as used
    replaces it; a request whose cost nobody reports, such as one that timed out, counts with all of it. ``name`` is
    what people set the limit by.
    """

    def __init__(self, price: Price, limit: float | None, name: str = "--spending-limit") -> None:
        self._name = name
        if limit is not None and not (price.prompt > 0 or price.completion > 0):
            raise MlcError("--spending-limit needs prices: give --price-in and --price-out, per million tokens")
        self._price, self._limit = price, limit
        self._reserved: list[float] = []
        self.spent = 0.0

    def most(self, body: Mapping[str, Any]) -> float:
        """The most that a request can cost, in currency units; 0 where that is neither known nor limited.

        Raises:
            MlcError: it is limited and not known.
        """
        answer = body.get("max_completion_tokens", body.get("max_tokens"))
        if not isinstance(answer, int):
            if self._limit is not None:
                raise MlcError("--spending-limit: --body leaves answers without max_tokens, so without a most cost")
            return 0.0
        prompt = len(json.dumps(dict(body), ensure_ascii=False).encode()) + _PER_MESSAGE * len(body["messages"])
        return self._price.of(prompt, answer * int(body.get("n", 1)))

    async def reserve(self, body: Mapping[str, Any]) -> float:
        """Waits until the most that a request can cost may be spent, and returns that.

        Raises:
            LimitReached: it may not, even when all that is in flight has ended.
        """
        most = self.most(body)
        while self._limit is not None and self.spent + sum(self._reserved) + most > self._limit:
            if not self._reserved:
                raise LimitReached(
                    f"{self._name} {self._limit:g}: {self.spent:.4f} is spent, and the next request can cost {most:.4f}"
                )
            await asyncio.sleep(0.02)
        self._reserved.append(most)
        return most

    def settle(self, most: float, usage: Any) -> None:
        """Replaces what was reserved by what the endpoint reports; null is nothing reported, 0 costs nothing."""
        self._reserved.remove(most)
        try:
            self.spent += self._price.of(usage["prompt_tokens"], usage["completion_tokens"])
        except (KeyError, TypeError):
            self.spent += 0.0 if usage == 0 else most
