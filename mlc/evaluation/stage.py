"""The evaluate stage: one judged sample line per prompt and language, and metrics computed from the lines.

First all replies are made, then all are judged: a model and a guard model need not fit into memory together. Each pass
appends a line per item to a file in ``artifacts/partial`` as it is done, and a killed run goes on from there.
"""

from __future__ import annotations

import csv
import gc
import math
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mlc.errors import MlcError
from mlc.evaluation.agreement import kappas
from mlc.evaluation.generators import make_generator
from mlc.evaluation.metrics import summarize
from mlc.evaluation.resume import complete
from mlc.evaluation.samples import Sample, read_samples, write_samples
from mlc.files import replacing, sha256_json, write_json
from mlc.judges import Judge, Judgement
from mlc.judges.configured import make_judge
from mlc.models.generation import Reply
from mlc.paths import Paths, Role, Subject
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Evaluate, Languages

PLOTTED = ("safe_rate", "over_refusal", "fidelity")
JUDGED_AT_ONCE = 512  # replies: a guard model sorts them by length, and a kill loses no more

Asked = Sequence[tuple[PromptRow, str]]


class Made(NamedTuple):
    """What a generator made: its ``model`` and ``name``, a hash of all that decides its replies, these in the order
    asked, and tokens and likelihood of the reference replies by position."""

    model: str
    name: str
    identity: str
    replies: list[Reply]
    likelihoods: dict[int, tuple[int, float]]


def sample(asked: Asked, evaluate: Evaluate, subject: Subject) -> list[Sample]:
    """One judged reply of the model per row and language asked, in their order.

    Call :func:`forget` when they are safely written: until then, calling this again repeats nothing.

    Raises:
        MlcError: the model or the judge is missing, or an endpoint cannot be used.
    """
    made = _made(asked, evaluate, subject)
    gc.collect()  # a guard model may need the generator's memory
    torch.cuda.empty_cache()
    judge = make_judge(evaluate)
    texts = [reply.text for reply in made.replies]
    judgements = complete(
        subject.partial / "judgements.jsonl",
        sha256_json([made.identity, judge.name, judge.version, texts]),
        len(asked),
        f"{subject.name} judgements",
        lambda done: _judged(judge, asked, texts, done),
    )
    return [_sample(row, tag, made, i, judge, Judgement(*judgements[i])) for i, (row, tag) in enumerate(asked)]


def forget(subject: Subject) -> None:
    """Removes what :func:`sample` has kept in case of a kill."""
    shutil.rmtree(subject.partial, ignore_errors=True)


def _made(asked: Asked, evaluate: Evaluate, subject: Subject) -> Made:
    generator = make_generator(evaluate, subject)
    prompts = [row.prompts[tag] for row, tag in asked]
    referenced = [i for i, (row, tag) in enumerate(asked) if tag in row.references]
    heads = [prompts[i] for i in referenced]
    references = [asked[i][0].references[asked[i][1]] for i in referenced]
    identity = sha256_json([generator.model, generator.name, evaluate.max_new_tokens, prompts, heads, references])
    replies = complete(
        subject.partial / "replies.jsonl",
        identity,
        len(asked),
        f"{subject.name} replies",
        lambda done: generator.replies(prompts, done),
    )
    likelihoods = complete(
        subject.partial / "references.jsonl",
        identity,
        len(referenced),
        f"{subject.name} reference replies",
        lambda done: generator.references(heads, references, done),
    )
    return Made(
        generator.model,
        generator.name,
        identity,
        [Reply(*replies[i]) for i in range(len(asked))],
        {referenced[at]: (tokens, nll) for at, (tokens, nll) in likelihoods.items()},
    )


def _judged(judge: Judge, asked: Asked, texts: Sequence[str], done: Collection[int]) -> Iterator[tuple[int, Judgement]]:
    """Judgements of all replies but those ``done``, the longest first, as a guard model packs them best."""
    prompts = [row.prompts[tag] for row, tag in asked]
    order = sorted(range(len(asked)), key=lambda i: (-len(prompts[i]) - len(texts[i]), i))
    for start in range(0, len(order), JUDGED_AT_ONCE):
        chunk = order[start : start + JUDGED_AT_ONCE]  # whatever is done, so that its batches are always the same
        if all(i in done for i in chunk):
            continue
        judgements = judge.judge(
            [prompts[i] for i in chunk],
            [texts[i] for i in chunk],
            [asked[i][1] for i in chunk],
            [asked[i][0].intent for i in chunk],
        )
        yield from ((i, j) for i, j in zip(chunk, judgements, strict=True) if i not in done)


def _sample(row: PromptRow, tag: str, made: Made, at: int, judge: Judge, judgement: Judgement) -> Sample:
    reply = made.replies[at]
    tokens, nll = made.likelihoods.get(at, (None, None))
    return Sample(
        prompt_id=row.id,
        language=tag,
        category=row.category,
        intent=row.intent,
        model=made.model,
        prompt=row.prompts[tag],
        response=reply.text,
        verdict=judgement.verdict,
        judge=judge.name,
        judge_version=judge.version,
        judge_raw=judgement.raw,
        response_language=judgement.response_language,
        tokens=reply.tokens,
        seconds=reply.seconds,
        generator=f"{made.name}, {reply.note}" if reply.note else made.name,
        reference_tokens=tokens,
        # Not a number: no JSON, and no likelihood; the gate then misses one.
        reference_nll=nll if nll is not None and math.isfinite(nll) else None,
    )


def run(languages: Languages, evaluate: Evaluate, role: Role, paths: Paths) -> None:
    """Evaluates the base or the candidate into ``artifacts/evaluation``: see :func:`evaluate_model`."""
    prompts = paths.prompts / f"{evaluate.prompts}.jsonl"
    evaluate_model(paths.subject(role), prompts, languages, evaluate, paths.evaluation(role))


def evaluate_model(
    subject: Subject, prompts: Path, languages: Languages, evaluate: Evaluate, folder: Path
) -> dict[str, Any]:
    """Writes ``samples.jsonl``, ``metrics.json`` and ``per_language.csv`` of a model on a prompt set into ``folder``.

    A killed run goes on where it was. Returns the metrics, as ``summarize`` makes them.

    Raises:
        MlcError: prompts, model or judge are missing, or a served language has no prompts.
    """
    rows = read_prompts(prompts, made_by="mlc validate")
    _check_coverage(rows, languages)
    asked = [(row, tag) for row in rows for tag in languages.all if tag in row.prompts]
    write_samples(folder / "samples.jsonl", sample(asked, evaluate, subject))
    samples = read_samples(folder / "samples.jsonl")
    metrics = summarize(samples, languages.served, languages.transfer, languages.source)
    agreeing = kappas(samples)
    if agreeing:
        metrics["judges"] = agreeing
        kappa = agreeing["all"]["fleiss"]
        shown = "-" if kappa is None else f"{kappa:.2f}"
        print(f"{subject.name}: {len(agreeing['judges'])} judges, Fleiss' kappa {shown}")
    write_json(folder / "metrics.json", metrics)
    _write_plot(folder / "per_language.csv", metrics)
    forget(subject)
    served = metrics["served"]
    for rate in ("safe_rate", "over_refusal", "fidelity", "invalid"):
        mean, worst = (served[rate][which]["value"] for which in ("mean", "worst"))
        print(f"{subject.name}: {rate.replace('_', ' ')} {mean:.1%}, worst language {worst:.1%}")
    return metrics


def _write_plot(path: Path, metrics: dict[str, Any]) -> None:
    """The rates per language that ``dvc plots`` shows."""
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["language", *PLOTTED])
        for tag, rates in metrics["languages"].items():
            writer.writerow([tag, *(rates[rate]["value"] if rate in rates else "" for rate in PLOTTED)])


def _check_coverage(rows: list[PromptRow], languages: Languages) -> None:
    for intent in ("harmful", "benign"):
        for tag in languages.served:
            if not any(row.intent == intent and tag in row.prompts for row in rows):
                raise MlcError(f"the evaluation prompts hold no {intent} prompt in {tag}, which languages.served names")
