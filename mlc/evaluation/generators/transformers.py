"""Replies by transformers, in this process: batched by tokens, on the GPU if there is one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc.models import generation
from mlc.models.generation import Reply, chat_ids
from mlc.models.loading import load_model
from mlc.models.template_arguments import in_words
from mlc.settings import Evaluate


class TransformersGenerator:
    """Replies of the weights in ``folder``, or of the adapter in it over ``base``; ``model`` is their id."""

    def __init__(self, folder: Path, base: Path, model: str, evaluate: Evaluate) -> None:
        import transformers

        self.model = model
        self.name = f"transformers {transformers.__version__}, greedy, {evaluate.precision}{in_words(folder)}"
        self._folders = folder, base
        self._evaluate = evaluate

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_model(*self._folders, self._evaluate.precision)

    def replies(self, prompts: Sequence[str], done: Collection[int]) -> Iterator[list[tuple[int, Reply]]]:
        model, tokenizer = self._loaded
        encoded = [chat_ids(tokenizer, prompt) for prompt in prompts]
        limits = self._evaluate.max_new_tokens, self._evaluate.batch_tokens
        return generation.replies(model, tokenizer, encoded, *limits, done)

    def references(
        self, prompts: Sequence[str], references: Sequence[str], done: Collection[int]
    ) -> Iterator[list[tuple[int, tuple[int, float]]]]:
        return generation.reference_nll(*self._loaded, prompts, references, self._evaluate.batch_tokens, done)
