"""Replies by vLLM, in this process: what ends makes room at once for what waits.

vLLM runs the weights that are served, with the stop tokens that they are served with: an adapter is merged by the same
code, and of the model's generation settings only the end tokens count.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlc.errors import MlcError
from mlc.models import inference
from mlc.models.generation import Reply, chat_ids, reference_ids
from mlc.models.template_arguments import in_words
from mlc.models.weights import is_adapter
from mlc.settings import Evaluate
from mlc.settings import VllmGenerator as Settings

AT_ONCE = 1024  # prompts that are handed over together: more than run together, few enough to lose in a kill


class VllmGenerator:
    """Replies of the weights in ``folder``, or of the adapter in it over ``base``; ``model`` is their id.

    Raises:
        MlcError: vLLM is not installed.
    """

    def __init__(self, settings: Settings, folder: Path, base: Path, model: str, evaluate: Evaluate) -> None:
        if find_spec("vllm") is None:
            raise MlcError('evaluate.generator: vLLM is not installed: pip install "mlc-pipeline[vllm]"')
        self.model = model
        self.name = f"vllm {version('vllm')}, greedy, {evaluate.precision}{in_words(folder)}"
        self._settings, self._evaluate = settings, evaluate
        self._folder, self._base = folder, base

    @cached_property
    def _engine(self) -> Any:
        from vllm import LLM

        return LLM(
            model=str(self._merged() if is_adapter(self._folder) else self._folder),
            tokenizer=str(self._folder),
            dtype=self._evaluate.precision,
            seed=0,
            tensor_parallel_size=self._settings.gpus,
            gpu_memory_utilization=self._settings.gpu_memory,
        )

    def _merged(self) -> str:
        """A folder with the adapter in its base, which goes with this object; vLLM would not merge the two."""
        from mlc.models import inference

        self._aside = tempfile.TemporaryDirectory(prefix="mlc-")
        model, _ = inference.load(self._folder, self._base, self._evaluate.precision)
        model.save_pretrained(self._aside.name)
        return self._aside.name

    @cached_property
    def _stops(self) -> list[int]:
        from transformers import AutoConfig, GenerationConfig

        from mlc.models import inference

        weights = self._base if is_adapter(self._folder) else self._folder
        try:
            settings = GenerationConfig.from_pretrained(weights)
        except OSError:  # there is none: transformers takes what the configuration says, when it loads the model
            settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(weights))
        return inference.stop_tokens(settings, self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._folder)

    @cached_property
    def _thinking(self) -> inference.Thinking | None:
        return inference.thinking_of(self._tokenizer)

    def _run(self, encoded: Sequence[Sequence[int]], **sampling: Any) -> list[Any]:
        """vLLM's outputs for token ids, in their order."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": list(ids)} for ids in encoded]
        parameters = SamplingParams(temperature=0, seed=0, stop_token_ids=self._stops, **sampling)
        outputs: list[Any] = self._engine.generate(prompts, parameters, use_tqdm=False)
        return outputs

    def replies(self, prompts: Sequence[str], done: Collection[int]) -> Iterator[list[tuple[int, Reply]]]:
        left = [i for i in range(len(prompts)) if i not in done]
        for start in range(0, len(left), AT_ONCE):
            chunk = left[start : start + AT_ONCE]
            started = time.perf_counter()
            encoded = [chat_ids(self._tokenizer, prompts[i]) for i in chunk]
            outputs = self._run(encoded, max_tokens=self._evaluate.max_new_tokens)
            seconds = (time.perf_counter() - started) / len(chunk)
            replies = []
            for i, output in zip(chunk, outputs, strict=True):
                made = output.outputs[0]
                ids, reason = list(made.token_ids), getattr(made, "finish_reason", None)
                ((thinking, text),) = inference.decoded(self._tokenizer, [ids], self._thinking)
                finished = None if reason is None else reason == "stop"
                replies.append((i, Reply(text, len(ids), seconds, "", finished, thinking)))
            yield replies

    def references(
        self, prompts: Sequence[str], references: Sequence[str], done: Collection[int]
    ) -> Iterator[list[tuple[int, tuple[int, float]]]]:
        left = [i for i in range(len(prompts)) if i not in done]
        for start in range(0, len(left), AT_ONCE):
            chunk = left[start : start + AT_ONCE]
            heads, tails = reference_ids(self._tokenizer, [prompts[i] for i in chunk], [references[i] for i in chunk])
            whole = [head + tail for head, tail in zip(heads, tails, strict=True)]
            # 0: of no likelier tokens, only of the prompt's own.
            outputs = self._run(whole, max_tokens=1, prompt_logprobs=0)
            likelihoods = []
            for i, head, tail, output in zip(chunk, heads, tails, outputs, strict=True):
                of_tail = zip(tail, output.prompt_logprobs[len(head) :], strict=True)
                likelihoods.append((i, (len(tail), -sum(logprobs[token].logprob for token, logprobs in of_tail))))
            yield likelihoods
