"""What the consistency objective costs: time and peak memory of a training step, over plain DPO's = 1.

    python benchmarks/step_cost.py table
    python benchmarks/step_cost.py growth --layers 6 --width 384 --vocabulary 6400 --steps 2
    python benchmarks/step_cost.py table --device cuda --layers 24 --width 896 --batch 16 --prompt 120 --reply 300

Random weights: speed needs no training. Every line is a process of its own (peak memory), on the same data, and the
lines are ratios within one run; on a CPU it is the processor's time, on one thread. The *bound* counts tokens alone: a
forward pass is 1 per token, a backward pass 2 with full weights and 1 with an adapter, one more forward pass where
variants are run again. DPO runs its tokens through policy and reference; the objective adds the variants', every n-th
step.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(TRL_EXPERIMENTAL_SILENCE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
app = typer.Typer()
LINES = {
    "plain DPO": {"mlc_weight": 0.0},
    "every 1": {"mlc_every": 1},
    "every 2": {"mlc_every": 2},
    "every 1, in chunks": {"mlc_every": 1, "mlc_chunk_tokens": 256},
    "every 1, direction + refusal + retain": {
        "mlc_every": 1, "mlc_objective": "direction", "mlc_trusted_languages": ["l0"], "mlc_layer": 2,
        "mlc_refusal_weight": 0.1, "mlc_retain_weight": 1.0,
    },
}  # fmt: skip


@app.command()
def measure(
    name: str,
    lora: bool = False,
    device: str = "cpu",
    layers: int = 10,
    width: int = 640,
    vocabulary: int = 16384,
    languages: int = 10,
    batch: int = 2,
    prompt: int = 30,
    reply: int = 90,
    steps: int = 4,
    checkpointing: bool = False,
) -> None:
    """Times one line and prints it as JSON: seconds per step, peak memory over the start in MB, padding, tokens."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, TrainerCallback

    from mlc.training.config import MLCDPOConfig
    from mlc.training.trainers import MLCDPOTrainer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "embedded-base")
    words = [word for word, i in tokenizer.get_vocab().items() if word.isascii() and word.isalpha() and i > 300]

    def text(length: int) -> str:
        """About so many tokens, give or take a third, as prompts and languages differ."""
        return " ".join(rng.choices(words, k=max(2, round(length * rng.uniform(0.67, 1.33)))))

    def reply_of(length: int) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text(length)}]

    tags = [f"l{i}" for i in range(languages)]
    scale = {tag: rng.uniform(0.8, 1.6) if i else 1.0 for i, tag in enumerate(tags)}
    rows = [
        {
            "prompt": [{"role": "user", "content": text(prompt)}],
            "chosen": reply_of(reply),
            "rejected": reply_of(reply),
            "variants": {tag: text(round(prompt * scale[tag])) for tag in tags},
            "harmful": bool(i % 2),
        }
        for i in range(8 * batch)
    ]
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 14 // 5, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, head_dim=64, tie_word_embeddings=True,
    )  # fmt: skip
    seconds: list[float] = []

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()  # of a single thread: what else runs on the machine hardly changes it

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(now() - self.started)

    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16" if device == "cuda" else "float32")
        args = MLCDPOConfig(
            output_dir=folder, max_steps=steps + 1, per_device_train_batch_size=batch, learning_rate=1e-5, seed=0,
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, mlc_languages=tags,
            bf16=device == "cuda", use_cpu=device == "cpu", gradient_checkpointing=checkpointing, max_length=None,
            **{"mlc_projection": 512, **LINES[name]},
        )  # fmt: skip
        adapter = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
        trainer = MLCDPOTrainer(
            model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            peft_config=adapter, callbacks=[Clock()],
        )  # fmt: skip
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        if device == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) / 2**10
        logged = [entry for entry in trainer.state.log_history if "mlc/padding" in entry]
    data = trainer.train_dataset
    pairs = sum(
        2 * len(p) + len(c) + len(r)
        for p, c, r in zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True)
    )
    variants = sum(len(tokenizer(text)["input_ids"]) + 8 for row in rows for text in row["variants"].values())
    ordered = sorted(seconds[1:])  # the first allocates
    result = {
        "seconds": sum(ordered) / len(ordered),
        "peak": peak,
        "padding": sum(entry["mlc/padding"] for entry in logged) / max(1, len(logged)),
        "dpo_tokens": pairs / len(rows),
        "variant_tokens": variants / len(rows),
        "parameters": model.num_parameters(),
    }
    print(json.dumps(result))


def bound(result: dict[str, float], line: dict[str, Any], lora: bool) -> float:
    """What a step costs over plain DPO's by tokens alone."""
    backward = 1 if lora else 2
    dpo = result["dpo_tokens"] * (1 + backward + 1)
    again = 1 if line.get("mlc_chunk_tokens") else 0
    return 1 + result["variant_tokens"] * (1 + backward + again) / line.get("mlc_every", 1) / dpo


def _measured(name: str, options: list[str]) -> dict[str, float]:
    """One line, measured in a process of its own."""
    command = [sys.executable, __file__, "measure", name, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return result


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def table(context: typer.Context) -> None:
    """Measures all lines, full weights and adapter, and prints the table. Options are those of ``measure``."""
    print(
        "| weights | line | time | by tokens | over the bound | peak memory | padding |\n|---|---|---|---|---|---|---|"
    )
    for lora in (False, True):
        plain: dict[str, float] = {}
        for name, line in LINES.items():
            result = _measured(name, [*context.args, *(["--lora"] if lora else [])])
            plain = plain or result
            time_ratio, memory = result["seconds"] / plain["seconds"], result["peak"] / plain["peak"]
            expected = bound(result, line, lora) if line.get("mlc_weight", 1) else 1.0
            padding = f"{result['padding']:.1%}" if result["padding"] else ""
            print(
                f"| {'adapter' if lora else 'full'} | {name} | {time_ratio:.2f} | {expected:.2f} "
                f"| {time_ratio / expected:.2f} | {memory:.2f} | {padding} |",
                flush=True,
            )
        print(
            f"<!-- {plain['parameters'] / 1e6:.0f} M parameters, plain DPO {plain['seconds']:.2f} s a step on "
            f"{plain['dpo_tokens']:.0f} tokens a pair, {plain['variant_tokens']:.0f} of variants, "
            f"{plain['peak']:.0f} MB -->",
            flush=True,
        )


# What grows, and through which values; the rest stays at the defaults.
GROWTH: dict[str, tuple[int, ...]] = {"languages": (2, 5, 10, 20), "prompt": (10, 30, 60, 120), "batch": (1, 2, 4)}


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def growth(context: typer.Context, plot: Path = ROOT / "docs" / "step-cost.svg") -> None:
    """Measures how the cost of ``every 1`` grows with languages, prompt length and batch; a table and a plot."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "step cost", "svg.fonttype": "none"}
    figure, axes = pyplot.subplots(1, len(GROWTH), figsize=(10, 3.2), sharey=True, layout="constrained")
    print("| grows | to | time | by tokens | over the bound | peak memory |\n|---|---|---|---|---|---|")
    for axis, (what, values) in zip(axes, GROWTH.items(), strict=True):
        measured, expected = [], []
        for value in values:
            options = [*context.args, f"--{what}", str(value)]
            plain, result = _measured("plain DPO", options), _measured("every 1", options)
            measured.append(result["seconds"] / plain["seconds"])
            expected.append(bound(result, LINES["every 1"], lora=False))
            print(
                f"| {what} | {value} | {measured[-1]:.2f} | {expected[-1]:.2f} | {measured[-1] / expected[-1]:.2f} "
                f"| {result['peak'] / plain['peak']:.2f} |",
                flush=True,
            )
        axis.plot(values, measured, "o-", color="black", label="measured")
        axis.plot(values, expected, "--", color="gray", label="by tokens alone")
        axis.set(xlabel={"languages": "languages", "prompt": "prompt tokens", "batch": "pairs in a batch"}[what])
        axis.set_ylim(bottom=1)
    axes[0].set_ylabel("step, plain DPO = 1")
    axes[0].legend(frameon=False)
    figure.savefig(plot, metadata={"Date": None})


@app.command()
def objective(batch: int = 16, languages: int = 10, width: int = 3584, repeats: int = 20) -> None:
    """Times the published objective alone, forward and backward: Gram eigenvalues over the full decomposition."""
    import torch
    import torch.nn.functional as F

    from mlc.training.objectives import mlc_loss

    h = torch.randn(batch, languages, width, requires_grad=True)
    present = torch.ones(batch, languages, dtype=torch.bool)

    def decomposition() -> torch.Tensor:
        s = torch.linalg.svdvals(F.normalize(h, dim=-1))
        return -F.log_softmax(s / (s[:, :1].detach() * 0.2), -1)[:, 0].mean()

    def timed(loss: Any) -> float:
        loss().backward()
        started = time.perf_counter()
        for _ in range(repeats):
            loss().backward()
        return (time.perf_counter() - started) / repeats * 1000

    full, gram = timed(decomposition), timed(lambda: mlc_loss(h, present, 0.2))
    print(f"B {batch}, K {languages}, d {width}: decomposition {full:.1f} ms, Gram {gram:.1f} ms, {full / gram:.1f} x")


if __name__ == "__main__":
    app()
