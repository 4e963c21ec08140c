"""Multiple choice: which of four replies answers the prompt? Task accuracy in every language, without a data set.

The questions are the evaluation rows that have a reference reply; the wrong options are other rows' references in the
same language. A model chooses the reply that it finds likeliest per token; chance is one in four.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np

from mlc.evaluation.metrics import Estimate
from mlc.evaluation.rates import ALPHA
from mlc.evaluation.statistics import clustered_mean, proportion
from mlc.models.generation import reference_nll
from mlc.prompts.schema import PromptRow

OPTIONS = 4
QUESTIONS = 40  # rows, each in all its languages


class Question(NamedTuple):
    """A prompt with its options; the first one is right."""

    row: str
    language: str
    prompt: str
    options: tuple[str, ...]


class Choices(TypedDict):
    """Estimates of the right choices in each language, and of their mean over the served ones, if any has questions."""

    languages: dict[str, Estimate]
    served: NotRequired[Estimate]


def questions(rows: Sequence[PromptRow], languages: Sequence[str]) -> list[Question]:
    """Questions of the first rows with references, always the same; a language with too few references has none."""
    referenced = [row for row in rows if row.references][:QUESTIONS]
    questions = []
    for tag in languages:
        every = sorted({row.references[tag] for row in referenced if tag in row.references})
        for row in referenced:
            right = row.references.get(tag)
            wrong = [text for text in every if text != right]
            if right is None or tag not in row.prompts or len(wrong) < OPTIONS - 1:
                continue
            drawn = random.Random(f"{row.id} {tag}").sample(wrong, OPTIONS - 1)
            questions.append(Question(row.id, tag, row.prompts[tag], (right, *drawn)))
    return questions


def accuracy(
    questions: Sequence[Question], model: Any, tokenizer: Any, served: Sequence[str], batch_tokens: int
) -> Choices:
    """``languages`` {tag: Estimate} of the right choices, and their ``served`` mean, clustered by prompt.

    A tie between the right option and another is wrong. Empty where there are no questions.
    """
    prompts = [question.prompt for question in questions for _ in question.options]
    replies = [option for question in questions for option in question.options]
    batches = reference_nll(model, tokenizer, prompts, replies, batch_tokens)
    scored = dict(item for batch in batches for item in batch)
    per_token = np.array([scored[i][1] / scored[i][0] for i in range(len(replies))]).reshape(-1, OPTIONS)
    right = np.all(per_token[:, :1] < per_token[:, 1:], axis=1).tolist()  # not a number is smaller than nothing: wrong
    tags = list(dict.fromkeys(question.language for question in questions))
    places = {row: i for i, row in enumerate(dict.fromkeys(question.row for question in questions))}
    matrix = np.full((len(places), len(tags)), np.nan)
    for question, chosen in zip(questions, right, strict=True):
        matrix[places[question.row], tags.index(question.language)] = chosen
    counts = {tag: matrix[:, i][np.isfinite(matrix[:, i])] for i, tag in enumerate(tags)}
    choices: Choices = {
        "languages": {tag: proportion(int(column.sum()), len(column)) for tag, column in counts.items()}
    }
    of_served = matrix[:, [i for i, tag in enumerate(tags) if tag in served]]
    of_served = of_served[np.isfinite(of_served).any(axis=1)]
    if of_served.size:
        choices["served"] = clustered_mean(of_served, ALPHA).estimate(len(of_served))
    return choices
