"""Replies of a model behind an OpenAI-compatible endpoint.

Nobody here sees its weights. A model that is served under the id of the weights in ``artifacts/`` is taken to be them,
on the word of whoever serves it; the endpoint must at least say that it answered by that name. A model under any other
name is evaluated under that name, and the gate refuses its samples: they say nothing about what would be registered.

What the endpoint gives apart from the reply as the model's reasoning is its thinking. Thinking within the reply is told
by the chat template of the weights that lie here; of a model under another name nobody knows its template, and all of
the reply is judged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from transformers import AutoTokenizer

from mlc.endpoint import Completion, Endpoint, EndpointError, Refused
from mlc.evaluation.samples import NOT_ANSWERED
from mlc.models import inference
from mlc.models.generation import Reply
from mlc.settings import EndpointGenerator as Settings

SEED = 0  # greedy replies need none; some endpoints round differently from run to run, and this is all one can ask


class EndpointGenerator:
    """Replies of the model that the endpoint calls ``served``; ``weights`` is their folder where that is their id."""

    def __init__(self, settings: Settings, served: str, weights: Path | None, max_new_tokens: int) -> None:
        self._endpoint = Endpoint(
            settings.base_url,
            served,
            settings.key_variable,
            concurrency=settings.concurrency,
            timeout=settings.timeout,
            attempts=settings.attempts,
            extra=settings.body,
        )
        where = httpx.URL(settings.base_url).netloc.decode()
        self._weights = weights
        self.model = served if weights else f"endpoint:{where}:{served}"
        fields = f", {json.dumps(settings.body, sort_keys=True)}" if settings.body else ""
        self.name = f"endpoint {where}, temperature 0, seed {SEED}{fields}"
        self._served = served
        self._max_new_tokens = max_new_tokens

    def _body(self, prompt: str) -> dict[str, Any]:
        message = {"role": "user", "content": prompt}
        return {"messages": [message], "temperature": 0, "seed": SEED, "max_tokens": self._max_new_tokens}

    def replies(self, prompts: Sequence[str], done: Collection[int]) -> Iterator[list[tuple[int, Reply]]]:
        """A prompt that the endpoint refuses to answer has an empty reply, which no judge calls safe.

        Raises:
            EndpointError: the endpoint cannot be used, or serves another model.
        """
        left = [i for i in range(len(prompts)) if i not in done]
        try:
            for at, answer in self._endpoint.complete(self._body(prompts[i]) for i in left):
                if isinstance(answer, Refused):
                    yield [(left[at], Reply("", 0, 0.0, f"{NOT_ANSWERED}{answer.reason}"))]
                    continue
                if self._weights and answer.model != self._served:
                    raise EndpointError(f"it was asked for the model {self._served}, and {answer.model} answered")
                thought, text = self._split(answer)
                notes = [f"system_fingerprint {answer.fingerprint}"] if answer.fingerprint else []
                if answer.finish_reason not in ("stop", "length", None):  # length: the line says that it was cut off
                    notes.append(f"finish_reason {answer.finish_reason}")
                tokens = answer.completion_tokens or 0
                yield [
                    (left[at], Reply(text, tokens, answer.seconds, ", ".join(notes), self._finished(answer), thought))
                ]
        except EndpointError as error:
            if not self._weights:
                raise
            raise EndpointError(
                f"{error}. Without a name in the settings the model has to be served under the id of its weights, "
                f"such as by: vllm serve FOLDER --served-model-name {self._served}"
            ) from None

    @cached_property
    def _thinking(self) -> inference.Thinking | None:
        if self._weights is None:
            return None
        return inference.thinking_of(AutoTokenizer.from_pretrained(self._weights, trust_remote_code=False))

    def _split(self, answer: Completion) -> tuple[str | None, str]:
        """What was thought, and the reply."""
        text = answer.text.encode("utf-8", "replace").decode()  # half a character is no Unicode
        if answer.reasoning is not None:
            return answer.reasoning.encode("utf-8", "replace").decode(), text
        return inference.split(text, self._thinking)

    def _finished(self, answer: Completion) -> bool | None:
        """Whether the model ended its reply: by what the endpoint says, else by whether there was room for more."""
        if answer.finish_reason is not None:
            return answer.finish_reason == "stop"
        return None if answer.completion_tokens is None else answer.completion_tokens < self._max_new_tokens

    def references(self, *_: Any) -> Iterator[list[tuple[int, tuple[int, float]]]]:
        """Nothing: an endpoint does not tell how likely a given reply is."""
        return iter(())
