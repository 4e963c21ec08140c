"""What an evaluation costs: generation over its bound, judging and metrics over generation.

    python benchmarks/evaluation.py generation
    python benchmarks/evaluation.py judging
    python benchmarks/evaluation.py lines
    python benchmarks/evaluation.py determinism
    python benchmarks/evaluation.py adapter

Needs the prompts and the base that ``mlc validate`` and ``mlc base`` put into artifacts/, or others named by options.
On a CPU it is the processor's time, on one thread, and of several repeats the shortest: what else runs on the machine
can only lengthen it.

The bound of generation is a *perfectly packed batch*: each row has the mean prompt and the mean reply length, so that
nothing is padding and no row ends before another; and nothing but the model's forward passes and the choice of the
likeliest token. Lengths are whole tokens, so its two parts, reading the prompts and writing the replies, are each
scaled to exactly the real number of tokens. One batch of all prompts is not the fastest on a CPU, whose caches it
overflows, so smaller ones are timed too, and both the one batch and the fastest are printed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlc.models.generation import batches_by_tokens, chat_ids, generate_ids, padded
from mlc.models.loading import load_model
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
app = typer.Typer()
T = TypeVar("T")
PACKED = (512, 256, 128)  # rows of the smaller packed batches
Model = Annotated[Path, typer.Option(help="folder of a model with its tokenizer")]
Prompts = Annotated[Path, typer.Option(help="a prompt set")]
Every = Annotated[int, typer.Option(help="use every n-th row")]
BASE, EVALUATION = ROOT / "artifacts" / "base", ROOT / "artifacts" / "prompts" / "evaluation.jsonl"


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()  # of a single thread


def timed(work: Callable[[], T]) -> tuple[float, T]:
    started = now()
    result = work()
    return now() - started, result


def setup(model: Path, prompts: Path, every: int) -> tuple[Settings, Any, Any, list[tuple[PromptRow, str]]]:
    """Settings, model, tokenizer, and the pairs of a prompt and a language."""
    torch.set_num_threads(1)
    settings = load_settings(ROOT / "params.yaml")
    precision = "bfloat16" if torch.cuda.is_available() else "float32"
    loaded, tokenizer = load_model(model, model, precision)
    rows = read_prompts(prompts)[::every]
    return settings, loaded, tokenizer, [(row, tag) for row in rows for tag in row.prompts]


@torch.inference_mode()
def packed(model: Any, rows: int, prompt: int, reply: int) -> tuple[float, float]:
    """Seconds of reading ``rows`` prompts, and of writing their replies, all of one length, in one batch."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = torch.randint(10, model.config.vocab_size, (rows, prompt), device=model.device)

    def step(ids: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        chosen: torch.Tensor = output.logits[:, -1].argmax(-1)
        return chosen[:, None]

    def write(ids: torch.Tensor) -> None:
        for _ in range(reply - 1):
            ids = step(ids)

    reading, ids = timed(lambda: step(ids))
    return reading, timed(lambda: write(ids))[0]


def by_transformers(model: Any, tokenizer: Any, encoded: Sequence[list[int]], new: int, batch_tokens: int) -> int:
    """The same batches by transformers' own ``generate``, which holds every row until the last one has ended."""
    steps = 0
    for batch in batches_by_tokens([len(e) + new for e in encoded], batch_tokens):
        ids, mask = (t.to(model.device) for t in padded([encoded[i] for i in batch], tokenizer.pad_token_id, "left"))
        output = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new, pad_token_id=tokenizer.pad_token_id
        )
        steps += output.shape[1] - ids.shape[1]
    return steps


@app.command()
def generation(model: Model = BASE, prompts: Prompts = EVALUATION, every: Every = 1, repeats: int = 2) -> None:
    """Generation, and transformers' own, over one perfectly packed batch of the same tokens."""
    settings, loaded, tokenizer, pairs = setup(model, prompts, every)
    encoded = [chat_ids(tokenizer, row.prompts[tag]) for row, tag in pairs]
    limits = settings.evaluate.max_new_tokens, settings.evaluate.batch_tokens
    ours = [timed(lambda: generate_ids(loaded, tokenizer, encoded, *limits, None)) for _ in range(repeats)]
    n, read, written = len(encoded), sum(map(len, encoded)), sum(reply.tokens for reply in ours[0][1])
    prompt, reply = round(read / n), round(written / n)
    print(f"{n} prompts of {read / n:.1f} tokens, replies of {written / n:.1f}; seconds on {loaded.device}:")
    bounds = []
    for rows in (n, *PACKED):
        times = []
        for _ in range(repeats):
            reading, writing = packed(loaded, rows, prompt, reply)
            times.append(reading * read / (rows * prompt) + writing * (written - n) / (rows * (reply - 1)))
        bounds.append(min(times))
        print(f"packed, {rows} rows at a time: {bounds[-1]:.2f}", flush=True)
    theirs = timed(lambda: by_transformers(loaded, tokenizer, encoded, *limits))[0]
    for what, seconds in (("generation", min(seconds for seconds, _ in ours)), ("transformers' generate", theirs)):
        over = f"{seconds / bounds[0]:.2f} x one batch of all, {seconds / min(bounds):.2f} x the fastest"
        print(f"{what}: {seconds:.2f}, {over}")


@app.command()
def judging(model: Model = BASE, prompts: Prompts = EVALUATION, every: Every = 1) -> None:
    """Judging, writing, reading back and metrics, over generation, with the judges of params.yaml."""
    from mlc.evaluation import sampling
    from mlc.evaluation.rates import summarize
    from mlc.evaluation.samples import read_samples, write_samples
    from mlc.paths import ModelUnderTest

    settings, _, _, pairs = setup(model, prompts, every)
    with tempfile.TemporaryDirectory() as folder:
        under_test = ModelUnderTest("base", "base", model, model, Path(folder) / "partial")
        generating, generated = timed(lambda: sampling._generated(pairs, settings.evaluate, under_test))
        judging, samples = timed(lambda: sampling.sample(pairs, settings.evaluate, under_test, settings.languages))
        lines = Path(folder) / "samples.jsonl"
        writing = timed(lambda: write_samples(lines, samples))[0]
        tags = settings.languages
        measuring = timed(lambda: summarize(read_samples(lines), tags.served, tags.transfer, tags.source))[0]
    print(f"{len(generated.replies)} replies with their references' likelihoods: {generating:.2f} s")
    after = judging + writing + measuring
    print(f"judging and writing {judging + writing:.2f} s, metrics {measuring:.2f} s: {after / generating:.1%} of that")


@app.command()
def lines(count: int = 10_000) -> None:
    """Reading and measuring so many made-up sample lines, bootstraps included."""
    import random

    from mlc.evaluation.rates import summarize
    from mlc.evaluation.samples import Sample, read_samples, write_samples

    torch.set_num_threads(1)
    tags = load_settings(ROOT / "params.yaml").languages
    rng = random.Random(0)
    rows = -(-count // len(tags.all))
    samples = [
        Sample(
            prompt_id=f"{i}", language=tag, category=f"category {i % 10}", intent="harmful" if i % 2 else "benign",
            model="m", prompt="p" * 80, response="r" * 200,
            verdict=rng.choice(["refused", "unsafe", "invalid"] if i % 2 else ["safe", "refused", "invalid"]),
            judge="j", judge_version="1", judge_raw="", response_language=tag, tokens=50, seconds=0.1,
            reference_tokens=20, reference_nll=rng.uniform(10, 40),
        )
        for i in range(rows)
        for tag in tags.all
    ][:count]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        write_samples(path, samples)
        reading, frame = timed(lambda: read_samples(path))
        measuring = timed(lambda: summarize(frame, tags.served, tags.transfer, tags.source))[0]
    print(f"{count} lines: read in {reading:.2f} s, all metrics with their intervals in {measuring:.2f} s")


@app.command()
def determinism(
    model: Model = BASE, prompts: Prompts = EVALUATION, every: Every = 1, precision: str = "float32"
) -> None:
    """How many replies differ between batch sizes: floating point adds up in another order."""
    settings, loaded, tokenizer, pairs = setup(model, prompts, every)
    loaded = loaded.to(getattr(torch, precision))
    encoded = [chat_ids(tokenizer, row.prompts[tag]) for row, tag in pairs]
    new, usual = settings.evaluate.max_new_tokens, settings.evaluate.batch_tokens
    first = generate_ids(loaded, tokenizer, encoded, new, usual, f"{usual} tokens")
    for batch_tokens in (usual * 4, usual // 16):
        replies = generate_ids(loaded, tokenizer, encoded, new, batch_tokens, f"{batch_tokens} tokens")
        differ = sum(a.text != b.text for a, b in zip(first, replies, strict=True))
        print(
            f"{precision}, batches of {batch_tokens} tokens instead of {usual}: {differ} of {len(first)} replies differ"
        )


@app.command()
def adapter(model: Model = BASE, prompts: Prompts = EVALUATION, every: Every = 8, repeats: int = 3) -> None:
    """What one load for base and adapter saves, and what an adapter costs that is kept apart to be switched off."""
    from peft import LoraConfig, get_peft_model

    settings, loaded, tokenizer, pairs = setup(model, prompts, every)
    encoded = [chat_ids(tokenizer, row.prompts[tag]) for row, tag in pairs]
    limits = settings.evaluate.max_new_tokens, settings.evaluate.batch_tokens
    loading = min(timed(lambda: load_model(model, model, "float32"))[0] for _ in range(repeats))
    apart = get_peft_model(loaded, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    kept = min(timed(lambda: generate_ids(apart, tokenizer, encoded, *limits, None))[0] for _ in range(repeats))
    merged = apart.merge_and_unload()
    whole = min(timed(lambda: generate_ids(merged, tokenizer, encoded, *limits, None))[0] for _ in range(repeats))
    print(f"loading {loading:.2f} s; {len(encoded)} replies: merged {whole:.2f} s, kept apart {kept:.2f} s")


if __name__ == "__main__":
    app()
