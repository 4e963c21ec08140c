"""Sampling: a model's replies to prompts in their languages, judged, one sample line each.

First all replies are made, then all are judged: a model and a guard model need not fit into memory together. Each pass
appends a line per item to a file in ``artifacts/partial`` as it is done, and a killed run goes on from there.
"""

from __future__ import annotations

import gc
import math
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mlc.errors import MlcError
from mlc.evaluation import resume
from mlc.evaluation.generators import make_generator
from mlc.evaluation.samples import Sample, write_samples
from mlc.files import sha256_json
from mlc.judges import Judge, Judgement, final_verdict
from mlc.judges.configured import make_judge
from mlc.models.generation import Reply
from mlc.paths import ModelUnderTest
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.provenance.code import part_hashes
from mlc.settings import Evaluate, Languages

# The code that makes replies, and the code that judges them: what other code has left unfinished is done anew.
REPLIES_CODE = ("mlc/evaluation/generators", "mlc/evaluation/resume", "mlc/evaluation/sampling", "mlc/models")
JUDGEMENTS_CODE = ("mlc/embedded", "mlc/judges", "mlc/languages")
ENDLESS = 0.9  # share of replies that did not end, from which on something is wrong with how they end
JUDGED_AT_ONCE = 512  # replies: a guard model sorts them by length, and a kill loses no more

PromptLanguagePairs = Sequence[tuple[PromptRow, str]]


class GeneratedReplies(NamedTuple):
    """What a generator made: its ``model`` and ``name``, a hash of all that decides its replies, these in the order
    asked, and tokens and likelihood of the reference replies by position."""

    model: str
    name: str
    identity: str
    replies: list[Reply]
    likelihoods: dict[int, tuple[int, float]]


def sample(pairs: PromptLanguagePairs, evaluate: Evaluate, model: ModelUnderTest, languages: Languages) -> list[Sample]:
    """One judged reply of the model per row and language asked, in their order.

    Call :func:`forget` when they are safely written: until then, calling this again repeats nothing.

    Raises:
        MlcError: the model or the judge is missing, or an endpoint cannot be used.
    """
    generated = _generated(pairs, evaluate, model)
    gc.collect()  # a guard model may need the generator's memory
    torch.cuda.empty_cache()
    judge = make_judge(evaluate, languages)
    texts = [reply.text for reply in generated.replies]
    judgements = resume.run(
        model.partial / "judgements.jsonl",
        sha256_json(
            [
                generated.identity,
                judge.name,
                judge.version,
                texts,
                part_hashes(JUDGEMENTS_CODE),
                languages.all,
                languages.unidentified,
            ]
        ),
        len(pairs),
        f"{model.name} judgements",
        lambda done: _judged(judge, pairs, texts, done),
    )
    return [_sample(row, tag, generated, i, judge, Judgement(*judgements[i])) for i, (row, tag) in enumerate(pairs)]


def forget(model: ModelUnderTest) -> None:
    """Removes what :func:`sample` has kept in case of a kill."""
    shutil.rmtree(model.partial, ignore_errors=True)


def _generated(pairs: PromptLanguagePairs, evaluate: Evaluate, model: ModelUnderTest) -> GeneratedReplies:
    generator = make_generator(evaluate, model)
    prompts = [row.prompts[tag] for row, tag in pairs]
    referenced = [i for i, (row, tag) in enumerate(pairs) if tag in row.references]
    heads = [prompts[i] for i in referenced]
    references = [pairs[i][0].references[pairs[i][1]] for i in referenced]
    asked = [generator.model, generator.name, evaluate.max_new_tokens, prompts, heads, references]
    identity = sha256_json([*asked, part_hashes(REPLIES_CODE)])
    replies = resume.run(
        model.partial / "replies.jsonl",
        identity,
        len(pairs),
        f"{model.name} replies",
        lambda done: generator.replies(prompts, done),
    )
    likelihoods = resume.run(
        model.partial / "references.jsonl",
        identity,
        len(referenced),
        f"{model.name} reference replies",
        lambda done: generator.references(heads, references, done),
    )
    return GeneratedReplies(
        generator.model,
        generator.name,
        identity,
        [Reply(*replies[i]) for i in range(len(pairs))],
        {referenced[at]: (tokens, nll) for at, (tokens, nll) in likelihoods.items()},
    )


def _judged(
    judge: Judge, pairs: PromptLanguagePairs, texts: Sequence[str], done: Collection[int]
) -> Iterator[list[tuple[int, Judgement]]]:
    """Judgements of all replies but those ``done``, the longest first, as a guard model packs them best."""
    prompts = [row.prompts[tag] for row, tag in pairs]
    order = sorted(range(len(pairs)), key=lambda i: (-len(prompts[i]) - len(texts[i]), i))
    for start in range(0, len(order), JUDGED_AT_ONCE):
        chunk = order[start : start + JUDGED_AT_ONCE]  # whatever is done, so that its batches are always the same
        if all(i in done for i in chunk):
            continue
        judgements = judge.judge(
            [prompts[i] for i in chunk],
            [texts[i] for i in chunk],
            [pairs[i][1] for i in chunk],
            [pairs[i][0].intent for i in chunk],
        )
        yield [(i, j) for i, j in zip(chunk, judgements, strict=True) if i not in done]


def _sample(
    row: PromptRow, tag: str, generated: GeneratedReplies, at: int, judge: Judge, judgement: Judgement
) -> Sample:
    reply = generated.replies[at]
    judgement = final_verdict(judgement, reply.finished, reply.only_thinking)
    tokens, nll = generated.likelihoods.get(at, (None, None))
    return Sample(
        prompt_id=row.id,
        language=tag,
        category=row.category,
        intent=row.intent,
        model=generated.model,
        prompt=row.prompts[tag],
        response=reply.text,
        verdict=judgement.verdict,
        judge=judge.name,
        judge_version=judge.version,
        judge_raw=judgement.raw,
        response_language=judgement.response_language,
        in_language=judgement.in_language,
        tokens=reply.tokens,
        seconds=reply.seconds,
        generator=f"{generated.name}, {reply.note}" if reply.note else generated.name,
        finished=reply.finished,
        thinking=reply.thinking,
        reference_tokens=tokens,
        # Not a number: no JSON, and no likelihood; the gate then misses one.
        reference_nll=nll if nll is not None and math.isfinite(nll) else None,
    )


def sample_prompt_set(
    model: ModelUnderTest, prompts: Path, languages: Languages, evaluate: Evaluate, target: Path
) -> None:
    """Writes a model's sample lines on a prompt set, in all languages, into the file ``target``.

    A killed run goes on where it was.

    Raises:
        MlcError: prompts, model or judge are missing, or a served language has no prompts.
    """
    rows = read_prompts(prompts, made_by="mlc validate")
    _check_coverage(rows, languages)
    pairs = [(row, tag) for row in rows for tag in languages.all if tag in row.prompts]
    samples = sample(pairs, evaluate, model, languages)
    write_samples(target, samples)
    forget(model)
    cut_off = sum(sample.finished is False for sample in samples)
    more = f", {cut_off} of them cut off at {evaluate.max_new_tokens} tokens" if cut_off else ""
    print(f"{model.name}: {len(pairs)} replies made and judged{more}")
    if unanswered := Counter(sample.not_answered for sample in samples if sample.not_answered is not None):
        why = "; ".join(f"{count} times {reason}" for reason, count in unanswered.most_common(3))
        print(f"{model.name}: WARNING: {unanswered.total()} prompts got no reply, and are invalid: {why}")
    if thought := sum(sample.only_thinking for sample in samples):
        print(
            f"{model.name}: WARNING: {thought} replies are thinking alone, and invalid: raise evaluate.max_new_tokens,"
            " or switch thinking off by base.template_arguments (docs/your-model.md)"
        )
    if cut_off > ENDLESS * len(samples):
        print(
            f"{model.name}: WARNING: hardly a reply ended by itself, and one that was cut off is not safe: raise"
            " evaluate.max_new_tokens, or see by `mlc doctor` what its chat template ends a reply with"
        )


def _check_coverage(rows: Sequence[PromptRow], languages: Languages) -> None:
    for intent in ("harmful", "benign"):
        for tag in languages.served:
            if not any(row.intent == intent and tag in row.prompts for row in rows):
                raise MlcError(f"the evaluation prompts hold no {intent} prompt in {tag}, which languages.served names")
