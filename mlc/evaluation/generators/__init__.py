"""Generators: who makes a model's replies. All of them are greedy.

A generator is cheap until it is first asked for something, so that a run which finds everything done loads no model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from mlc.errors import MlcError
from mlc.models.generation import Reply
from mlc.models.weights import weights_id
from mlc.paths import ModelUnderTest
from mlc.settings import Evaluate


class Generator(Protocol):
    """Makes replies of one model.

    ``model`` stands for it in its sample lines: the weights' id where it is certain what was run. ``name`` says by
    what means the replies are made, as far as it can change them.
    """

    model: str
    name: str

    def replies(self, prompts: Sequence[str], done: Collection[int]) -> Iterator[list[tuple[int, Reply]]]:
        """Index and reply of all user prompts but those ``done``, in any order, each batch as soon as it is there."""

    def references(
        self, prompts: Sequence[str], references: Sequence[str], done: Collection[int]
    ) -> Iterator[list[tuple[int, tuple[int, float]]]]:
        """Tokens and summed negative log-likelihood (nats) of each reply to its prompt, but for those ``done``.

        Yields nothing where the likelihood of a given text cannot be had.
        """


def make_generator(evaluate: Evaluate, model: ModelUnderTest) -> Generator:
    """The generator that the settings name, for this model.

    Raises:
        MlcError: the model, a key or a package is missing.
    """
    settings = evaluate.generator
    if settings.name == "endpoint":
        from mlc.evaluation.generators.endpoint import EndpointGenerator

        served = settings.base_model if model.role == "base" else settings.candidate_model
        weights = model.folder if served is None else None
        return EndpointGenerator(settings, served or _weights_id(model), weights, evaluate.max_new_tokens)
    if settings.name == "vllm":
        from mlc.evaluation.generators.vllm import VllmGenerator

        return VllmGenerator(settings, model.folder, model.base, _weights_id(model), evaluate)
    from mlc.evaluation.generators.transformers import TransformersGenerator

    return TransformersGenerator(model.folder, model.base, _weights_id(model), evaluate)


def _weights_id(model: ModelUnderTest) -> str:
    for folder, made_by in ((model.base, "mlc base"), (model.folder, "mlc train` and `mlc select")):
        if not folder.is_dir():
            raise MlcError(f"{folder} does not exist: run `{made_by}` first")
    return weights_id(model.folder)
