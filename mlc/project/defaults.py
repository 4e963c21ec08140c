"""Settings of a new project that follow from its base: what fits a model of 3 million parameters fits no larger one."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from mlc.models import base
from mlc.project.devices import gpus
from mlc.prompts.schema import PromptRow, read_prompts

LARGE = 50_000_000  # parameters; the settings that a project starts from are tuned on a model of 3.4 million
EPOCHS = 3  # as published (arXiv 2602.16660, section 4), and so is the effective batch
EFFECTIVE_BATCH = 32
BATCH = 8
ROUNDED = 64  # tokens: max_length is a multiple
LONGEST = 4096  # tokens that max_length is raised to by itself; longer rows cost memory that somebody has to decide on


class Defaults(NamedTuple):
    """Settings as params.yaml has them, and a sentence about each choice."""

    settings: dict[str, Any]
    said: list[str]


def defaults(model: str, revision: str | None, source: str, data: Path | None) -> Defaults:
    """What a project starts from, beyond the settings that fit every base.

    Args:
        model: a folder, whose files have been checked, or an id of the hub. revision: the commit of the latter.
        source: the language that has replies. data: the folder with alignment.jsonl, where it is known.
    """
    folder = Path(model) if Path(model).is_dir() else None
    count = base.parameters(model, folder) if folder else _hub_parameters(model, revision)
    train: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    said = []
    alignment = data / "alignment.jsonl" if data else None
    pairs = 0
    if alignment is not None and alignment.is_file():
        rows = read_prompts(alignment, made_by="you")
        pairs = sum(row.chosen is not None for row in rows)
        if folder is not None:
            longest = _longest(folder, rows, source)
            fits = max(256, -(-longest // ROUNDED) * ROUNDED)
            train["max_length"] = min(fits, LONGEST, _positions(folder) or LONGEST)
            said.append(
                f"train.max_length {train['max_length']}: the longest row of alignment.jsonl has {longest:,} tokens"
            )
    if count is not None and count <= LARGE:
        said.append(f"the base has {count / 1e6:.1f} million parameters: all of them are trained, in float32")
        return Defaults({"train": train}, said)
    precision = "bfloat16" if has_bfloat16() else "float32"
    train |= {
        "learning_rate": 1.0e-5,
        "batch_size": BATCH,
        "gradient_accumulation_steps": EFFECTIVE_BATCH // BATCH,
        "precision": precision,
        "lora": {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear", "load_in_4bit": False},
        "objective": {"chunk_tokens": 16384},
    }
    evaluate |= {"precision": precision, "max_new_tokens": 512}
    size = "a size that could not be looked up" if count is None else f"{count / 1e6:,.0f} million parameters"
    said.append(
        f"the base has {size}: a LoRA adapter is trained (train.lora), at a learning rate of 1e-5, in {precision};"
        " replies may have 512 tokens (evaluate.max_new_tokens)"
    )
    if pairs:
        train["max_steps"] = max(1, -(-EPOCHS * pairs // EFFECTIVE_BATCH))
        train["save_steps"] = max(1, train["max_steps"] // 4)
        said.append(
            f"train.max_steps {train['max_steps']}: {EPOCHS} times over {pairs:,} pairs, {EFFECTIVE_BATCH} at a step"
        )
    if folder is None and "max_length" not in train:
        train["max_length"] = 1024
        said.append("train.max_length 1024: `mlc train` says how many rows fit")
    return Defaults({"train": train, "evaluate": evaluate}, said)


def _hub_parameters(model: str, revision: str | None) -> int | None:
    """How many parameters a model of the hub has, where the hub can be asked."""
    with contextlib.suppress(Exception):  # no network, no such model, no metadata: the base stage will say
        from huggingface_hub import get_safetensors_metadata

        return sum(get_safetensors_metadata(model, revision=revision).parameter_count.values())
    return None


def _positions(folder: Path) -> int | None:
    """The tokens that a model can hold, where its configuration says so."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = (config.get("text_config") or config).get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


def _longest(folder: Path, rows: list[PromptRow], source: str) -> int:
    """Tokens of the longest conversation to train on: a prompt in any language, and in the source with a reply."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def tokens(prompt: str, reply: str | None) -> int:
        turns = [{"role": "user", "content": prompt}]
        if reply is not None:
            turns.append({"role": "assistant", "content": reply})
        return len(tokenizer.apply_chat_template(turns, add_generation_prompt=reply is None, return_dict=False))

    return max(
        tokens(prompt, reply)
        for row in rows
        for tag, prompt in row.prompts.items()
        for reply in ((row.chosen, row.rejected) if tag == source else (None,))
    )


def has_bfloat16() -> bool:
    """Whether where models run, a GPU or the processor, computes in bfloat16."""
    if gpus():
        done = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
                              capture_output=True, text=True)  # fmt: skip
        capabilities = done.stdout.split()
        return bool(capabilities) and all(float(capability) >= 8 for capability in capabilities)
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
