"""The evaluate stage: one judged sample line per prompt and language, and metrics computed from the lines."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mlc import manifest
from mlc.errors import MlcError
from mlc.evaluation.generation import generate, reference_nll
from mlc.evaluation.judges import Judge
from mlc.evaluation.metrics import summarize
from mlc.evaluation.models import load_model
from mlc.evaluation.samples import Sample, read_samples, write_samples
from mlc.files import replacing, write_json
from mlc.paths import Paths, Role
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Evaluate, Languages

PLOTTED = ("safe_rate", "over_refusal", "fidelity")


def make_judge(evaluate: Evaluate) -> Judge:
    """The judge that the settings name."""
    if evaluate.judge.model is None:
        from mlc.embedded.judge import EmbeddedJudge

        return EmbeddedJudge()
    from mlc.evaluation.guard import GuardJudge

    return GuardJudge(evaluate.judge.model, evaluate.judge.revision, evaluate.precision, evaluate.batch_tokens)


def sample(asked: Sequence[tuple[PromptRow, str]], evaluate: Evaluate, role: Role, paths: Paths) -> list[Sample]:
    """One judged reply of the base or the candidate per row and language asked.

    Raises:
        MlcError: the model or the judge is missing.
    """
    torch.manual_seed(0)
    model, tokenizer = load_model(paths.weights(role), paths.base, evaluate.precision)
    identity = manifest.weights_id(paths.weights(role))
    prompts = [row.prompts[tag] for row, tag in asked]
    replies = generate(model, tokenizer, prompts, evaluate.max_new_tokens, evaluate.batch_tokens, f"{role} replies")
    referenced = [i for i, (row, tag) in enumerate(asked) if tag in row.references]
    nll = reference_nll(
        model,
        tokenizer,
        [prompts[i] for i in referenced],
        [asked[i][0].references[asked[i][1]] for i in referenced],
        evaluate.batch_tokens,
        f"{role} reference replies",
    )
    likelihoods = dict(zip(referenced, nll, strict=True))
    del model  # a guard model may need the memory
    judge = make_judge(evaluate)
    judgements = judge.judge(
        prompts, [r.text for r in replies], [tag for _, tag in asked], [row.intent for row, _ in asked]
    )
    return [
        Sample(
            prompt_id=row.id,
            language=tag,
            category=row.category,
            intent=row.intent,
            model=identity,
            prompt=prompts[i],
            response=replies[i].text,
            verdict=judgements[i].verdict,
            judge=judge.name,
            judge_version=judge.version,
            judge_raw=judgements[i].raw,
            response_language=judgements[i].response_language,
            tokens=replies[i].tokens,
            seconds=replies[i].seconds,
            reference_tokens=likelihoods[i][0] if i in likelihoods else None,
            reference_nll=likelihoods[i][1] if i in likelihoods else None,
        )
        for i, (row, tag) in enumerate(asked)
    ]


def run(languages: Languages, evaluate: Evaluate, role: Role, paths: Paths) -> None:
    """Writes ``samples.jsonl`` and ``metrics.json`` of the base or the candidate.

    Raises:
        MlcError: prompts, model or judge are missing, or a served language has no prompts.
    """
    rows = read_prompts(paths.prompts / f"{evaluate.prompts}.jsonl", made_by="mlc validate")
    _check_coverage(rows, languages)
    asked = [(row, tag) for row in rows for tag in languages.all if tag in row.prompts]
    folder = paths.evaluation(role)
    write_samples(folder / "samples.jsonl", sample(asked, evaluate, role, paths))
    metrics = summarize(read_samples(folder / "samples.jsonl"), languages.served, languages.transfer, languages.source)
    write_json(folder / "metrics.json", metrics)
    _write_plot(folder / "per_language.csv", metrics)
    served = metrics["served"]
    for rate in ("safe_rate", "over_refusal", "fidelity", "invalid"):
        mean, worst = (served[rate][which]["value"] for which in ("mean", "worst"))
        print(f"{role}: {rate.replace('_', ' ')} {mean:.1%}, worst language {worst:.1%}")


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
