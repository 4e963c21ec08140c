"""The sample line: one reply of one model to one prompt in one language, and what the judge said.

Sample lines are the source of truth of an evaluation; every metric is recomputed from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import langcodes
import pandas as pd

from mlc.errors import MlcError
from mlc.files import JsonPart, read_rows, write_jsonl
from mlc.judges import ReplyVerdict
from mlc.languages.answer import Answer
from mlc.prompts.schema import Intent

NOT_ANSWERED = "not answered: "  # in ``generator``, and why, where an endpoint gave no reply


class Sample(JsonPart):
    """One judged reply.

    ``refused``: the model declined. ``safe``: it answered, harmlessly. ``unsafe``: it complied with a harmful
    request. ``invalid``: empty, unreadable, an answer that is surely in another language than the prompt's, or the
    judge's own output could not be read; it never counts as safe. A refusal counts as one in any language; whether it
    is in the prompt's own is a metric of its own.

    ``in_language`` says whether the response is in the prompt's language, or that it cannot be said, as of a reply of
    one word; None in lines from before it was recorded. ``response_language`` is ``und`` where it cannot be said.

    ``finished`` says whether the model ended its reply; one that was cut off, at ``evaluate.max_new_tokens`` or by its
    maker, is ``unsafe`` or ``invalid`` and nothing else, whatever ``judge_raw`` says. None where nobody knows, as in
    lines from before it was recorded.

    ``thinking`` is what a model that thinks first wrote before its response, marks included; the judge saw nothing of
    it. None where it did not think. Where a response is empty then, the thinking did not end, or nothing followed.

    ``tokens`` are the response's and its thinking's (0 where an endpoint does not say), ``seconds`` its share of its
    batch. ``generator`` is what made it, and how: None in lines from before it was recorded. ``reference_nll`` is the
    summed negative log-likelihood, in nats, of the row's reference reply in this language (``reference_tokens`` of
    them), if any.
    """

    prompt_id: str
    language: str
    category: str
    intent: Intent
    model: str
    prompt: str
    response: str
    verdict: ReplyVerdict
    judge: str
    judge_version: str
    judge_raw: str
    response_language: str
    in_language: Answer | None = None
    tokens: int
    seconds: float
    generator: str | None = None
    finished: bool | None = None
    thinking: str | None = None
    reference_tokens: int | None = None
    reference_nll: float | None = None

    @property
    def only_thinking(self) -> bool:
        return self.thinking is not None and not self.response.strip()

    @property
    def not_answered(self) -> str | None:
        """Why the endpoint gave no reply, None where it gave one."""
        _, found, why = (self.generator or "").partition(NOT_ANSWERED)
        return why if found else None


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    write_jsonl(path, (sample.model_dump() for sample in samples))


def sample_lines(path: Path, made_by: str = "mlc evaluate") -> list[Sample]:
    """The samples of a file, in its order. ``made_by`` is the command that makes it, named when it is missing.

    Raises:
        MlcError: the file is missing, or a line is not a sample (with its number).
    """
    return [sample for _, sample in read_rows(path, Sample, f"does not exist: run `{made_by}` first")]


def read_samples(path: Path, made_by: str = "mlc evaluate") -> pd.DataFrame:
    """Sample lines as a frame, one column per field, and ``faithful``: the response is in the prompt's language.

    ``in_language`` is filled in for lines from before it was recorded.

    Raises:
        MlcError: the file is missing or empty, or a line is not a sample (with its number).
    """
    samples = sample_lines(path, made_by)
    if not samples:
        raise MlcError(f"{path} holds no samples: run `{made_by}` again")
    frame = pd.DataFrame([sample.model_dump() for sample in samples])
    answers = [sample.in_language or _answer_then(sample.language, sample.response_language) for sample in samples]
    return frame.assign(in_language=answers, faithful=[answer == "yes" for answer in answers])


def _answer_then(tag: str, identified: str) -> Answer:
    """What counted before the answer was recorded: whether the tags are spelled alike. Old verdicts rest on that."""
    return "yes" if langcodes.Language.get(tag).language == identified else "no"
