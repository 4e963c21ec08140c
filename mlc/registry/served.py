"""Before a version is registered: the packaged model is asked again, and has to answer as it was evaluated.

The gate judges replies in a file. This is what ties them to the model that would be served: a share of them, which
nobody can foresee, is asked of the finished package, loaded as whoever serves it would. A reply that was written by
hand, by another model, or by other settings of generation is not given again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from mlc.errors import IntegrityError, MlcError
from mlc.evaluation.samples import Sample, sample_lines
from mlc.files import sha256_folder
from mlc.models.manifest import Manifest
from mlc.models.weights import is_adapter
from mlc.paths import Paths
from mlc.registry.recheck import drawn
from mlc.registry.verify import MODEL, VersionFiles
from mlc.settings import Settings
from mlc.text import visible

AT_LEAST = 8  # replies of each language, however small the share
# Nats by which a token may be less likely than the likeliest, and another batch's rounding can still turn to it.
# Measured in docs/registry.md; a step of bfloat16 between 16 and 32, where logits often are, is 0.125.
ROUNDING = {"float32": 1e-3, "bfloat16": 0.5}


def check(folder: Path, manifest: Manifest, settings: Settings, paths: Paths) -> None:
    """Asks the packaged model in ``folder`` a share of the evaluation's prompts in each language.

    Raises:
        IntegrityError: it does not give the evaluated replies.
        MlcError: it cannot be asked: its base is another one, or the limit on replies has changed since.
    """
    evaluate, path = settings.evaluate, paths.samples("candidate")
    samples = sample_lines(path)
    longest = max(sample.tokens for sample in samples)
    if longest > evaluate.max_new_tokens:
        raise MlcError(
            f"{path} holds replies of up to {longest} tokens, and evaluate.max_new_tokens is"
            f" {evaluate.max_new_tokens}, which would be the longest reply served: run `mlc evaluate candidate` again"
        )
    chosen = _chosen(samples, settings.register_.served_share)
    model = _loaded(folder, manifest, paths)
    chats = [[{"role": "user", "content": sample.prompt}] for sample in chosen]
    completions = model.predict(pd.DataFrame({"messages": chats}))
    choices = [completion["choices"][0] for completion in completions]
    pairs = [
        (s, c, i) for i, (s, c) in enumerate(zip(chosen, choices, strict=True)) if c["message"]["content"] != s.response
    ]
    other = evaluate.generator.name != "transformers"
    rounding = ROUNDING["bfloat16" if other else evaluate.precision]
    served = model.unwrap_python_model()
    # What is served does not tell the thinking, behind which the reply's tokens are likely.
    thinks = bool(pairs) and served.inference.thinking_of(served.tokenizer) is not None
    again = served.answers(chats, evaluate.max_new_tokens) if thinks else []
    for sample, choice, i in pairs:
        ended = sample.tokens < evaluate.max_new_tokens
        now = again[i].thinking or "" if thinks else ""
        replies = [
            ((sample.thinking or "") + sample.response, ended),
            (now + choice["message"]["content"], choice["finish_reason"] == "stop"),
        ]
        if any(_gap(served, sample.prompt, *reply, evaluate.max_new_tokens) > rounding for reply in replies):
            raise IntegrityError(_difference(sample, len(pairs), len(chosen), path, evaluate.generator.name))
    print(
        f"register: the packaged model was asked {len(chosen)} of {len(samples)} prompts again, and answers as it was"
        " evaluated" + (f"; {len(pairs)} replies differ by rounding alone" if pairs else "")
    )


def _chosen(samples: Sequence[Sample], share: float) -> list[Sample]:
    """A share of each language's lines, which cannot be foreseen. Where an endpoint gave no reply there is none."""
    languages: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.response or sample.not_answered is None:
            languages[sample.language].append(sample)
    return [line for lines in languages.values() for line in drawn(lines, share, AT_LEAST)]


def _loaded(folder: Path, manifest: Manifest, paths: Paths) -> Any:
    """The packaged model, by MLflow; the hub's base of an adapter is the project's copy, after a look at its hashes."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config: dict[str, Any] = {}
    if is_adapter(folder / MODEL) and not VersionFiles(folder).base.is_dir():
        if sha256_folder(paths.base) != manifest.base.files:
            raise MlcError(f"{paths.base} is not the base that the adapter was trained on: run `mlc base`")
        config = {"base": str(paths.base.resolve()), "revision": None}
    return mlflow.pyfunc.load_model(str(folder), model_config=config or None)


def _gap(served: Any, prompt: str, reply: str, ended: bool, max_new_tokens: int) -> float:
    """By how many nats the token of a reply that is least like greedy is less likely than the likeliest in its place.

    Rounding turns greedy decoding only where two tokens are nearly as likely. From there on both replies are greedy,
    each after its own beginning: so each has to be, to the end. ``ended`` says that the reply was not cut off.
    """
    import torch

    model, tokenizer, inference = served.model, served.tokenizer, served.inference
    head = inference.chat_ids(tokenizer, [{"role": "user", "content": prompt}])
    # Half a character at the end of what was cut off is no text.
    tail: list[int] = tokenizer(reply.rstrip("\ufffd"), add_special_tokens=False)["input_ids"]
    if len(tail) > max_new_tokens:
        return math.inf
    with torch.inference_mode():
        ids = torch.tensor([head + tail], device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(tail) + 1).logits[0].float()
    best = logits.max(-1).values
    gaps = (best[:-1] - logits[:-1].gather(-1, ids[0, len(head) :, None])[:, 0]).tolist()
    if not ended and len(tail) > max_new_tokens * 3 / 4:
        # The last word may be cut in two, and its pieces then have other tokens than they had as a part of it.
        return float(max(gaps[: len(gaps) - min(8, len(gaps) // 8)]))
    stops = inference.stop_tokens(model.generation_config, tokenizer)
    return max([*gaps, float(best[-1] - logits[-1, stops].max())]) if stops else math.inf


def _difference(sample: Sample, differing: int, asked: int, path: Path, generator: str) -> str:
    by = {
        "vllm": " vLLM made the evaluated replies, and they are not transformers' up to rounding: evaluate with it, by"
        " evaluate.generator {name: transformers}.",
        "endpoint": " An endpoint made the evaluated replies: it serves other weights, quantized ones, or by other"
        " settings of generation. Evaluate by evaluate.generator {name: transformers}.",
    }
    return (
        f"the packaged model does not answer as it was evaluated, and nothing is registered: {differing} of {asked}"
        f" replies that it was asked for again differ from {path}, such as the one to prompt"
        f" {visible(sample.prompt_id)} in {visible(sample.language)}, by more than rounding.{by.get(generator, '')}"
        " The file was changed or is another model's, or the libraries are others than in the evaluation: remove"
        " artifacts/partial, and run `mlc evaluate candidate` again"
    )
