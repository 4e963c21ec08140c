"""Translation by a language model behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from mlc.asking import Asking, Question
from mlc.endpoint import Endpoint
from mlc.errors import MlcError
from mlc.spending import Price, Spending
from mlc.translation import Request, Result, Stopped, answers


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
        endpoint = Endpoint(
            str(address),
            model,
            key_variable,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            meter=self.spending,
        )
        self._asking = Asking(endpoint, self._question, Stopped)

    def check(self, pairs: set[tuple[str, str]]) -> None:
        """Nothing: an endpoint does not say which languages its model knows."""

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        for answer in self._asking.answers(requests):
            yield Result(*answer)

    def _question(self, request: Request, unfit: int) -> Question[str]:
        body = answers.body(self._model, request, unfit, self._extra)
        return Question(body, lambda reply: answers.translation(reply, request))
