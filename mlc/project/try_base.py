"""What ``mlc doctor`` asks of the base itself: does it load, answer and train one step with these settings?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from mlc.errors import MlcError
from mlc.models import base
from mlc.paths import Paths
from mlc.project.connections import Check
from mlc.project.devices import gpus
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Languages, Settings, Train
from mlc.text import one_line

NEW_TOKENS = 16
GIB = 2**30
WHOLE = 16  # bytes a parameter that is trained takes: weight, gradient and AdamW's two moments, float32
SEE_ABOVE = "the line above says what; docs/your-model.md, What a base has to be"


def try_base(settings: Settings, paths: Paths) -> Iterator[Check]:
    """Loads the base, answers two prompts, and trains one step; nothing is written."""
    folder = paths.base if paths.base.is_dir() else paths.root / settings.base.model
    if not folder.is_dir():
        yield Check("base", "warning", "not here yet, so nobody has tried it", "`mlc base`, then `mlc doctor` again")
        return
    needed, free = _memory(settings, folder), psutil.virtual_memory().available
    if not gpus() and needed > free:
        found = f"not tried: about {needed / GIB:.1f} GiB of memory needed, {free / GIB:.1f} free"
        yield Check("base", "warning", found, "train where there is more memory, or a smaller model, or train.lora")
        return
    with TemporaryDirectory(prefix="mlc-trial-") as scratch:
        try:
            folder = _with_arguments(settings, folder, Path(scratch))
            yield _answers(settings, folder)
        except MlcError as error:
            yield Check("answers", "problem", one_line(error), SEE_ABOVE)
            return
        yield _step(settings, paths, folder)


def _with_arguments(settings: Settings, folder: Path, scratch: Path) -> Path:
    """The base's folder, or one of links to its files with the template that `mlc base` would write."""
    from mlc.models import template_arguments

    arguments = settings.base.template_arguments
    if not arguments or template_arguments.arguments_of(folder) == arguments:
        return folder
    linked = scratch / "base"
    linked.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (linked / file.name).symlink_to(file.resolve())
    template_arguments.write(settings.base.model, linked, arguments)
    return linked


def _memory(settings: Settings, folder: Path) -> int:
    """Bytes that one training step takes, activations not counted."""
    each = WHOLE if settings.train.lora is None else 2 if settings.train.precision == "bfloat16" else 4
    return each * base.parameters(settings.base.model, folder)


def _answers(settings: Settings, folder: Path) -> Check:
    from mlc.models.chat_template import TURN, check_chat_template, thinks_note
    from mlc.models.generation import chat_ids, generate_ids
    from mlc.models.loading import load_model

    template = check_chat_template(settings.base.model, folder)
    model, tokenizer = load_model(folder, folder, settings.evaluate.precision)
    prompts = [chat_ids(tokenizer, text) for text in (TURN["content"], "Name three kinds of bread.")]
    started = time.perf_counter()
    replies = generate_ids(model, tokenizer, prompts, NEW_TOKENS, settings.evaluate.batch_tokens, None)
    seconds = time.perf_counter() - started
    speed = sum(reply.tokens for reply in replies) / seconds
    system = "takes a system turn" if template.system else "takes no system turn"
    found = f"two prompts answered together, {speed:.0f} tokens a second; its template {system}"
    if template.end is None:
        todo = (
            "write the token that ends a turn into its chat template: replies are trained without one, and run on"
            f" until evaluate.max_new_tokens ({settings.evaluate.max_new_tokens})"
        )
        return Check("answers", "warning", f"{found}, and ends a reply with no special token", todo)
    if not template.is_stop:
        todo = (
            "nothing, where mlc serves it; elsewhere serve with that token as a stop, or add it to eos_token_id in"
            " generation_config.json"
        )
        found += f", and ends a reply with {template.end}, which its settings do not stop at: mlc stops there too"
        return Check("answers", "warning", found, todo)
    found += f", and ends a reply with {template.end}"
    if template.thinks:
        return Check("answers", "warning", found, f"nothing, where that is meant: {thinks_note(template)}")
    return Check("answers", "ok", found)


def _step(settings: Settings, paths: Paths, folder: Path) -> Check:
    train = settings.train
    try:
        rows: list[PromptRow] = read_prompts(paths.data / "alignment.jsonl")
    except MlcError:
        return Check("training", "warning", "not tried: there are no alignment prompts", "see the prompts above")
    try:
        seconds = one_step(rows, settings.languages, train, folder)
    except MlcError as error:
        return Check("training", "problem", one_line(error), "change the setting that it names")
    except Exception as error:  # of whatever library: what it says is what stops the training
        found = f"one step of {train.paradigm} fails: {type(error).__name__}: {one_line(error)}"
        return Check("training", "problem", found, SEE_ABOVE)
    return Check("training", "ok", f"one step of {train.paradigm} on a few rows, in {seconds:.1f} s")


def one_step(rows: list[PromptRow], languages: Languages, train: Train, base_folder: Path) -> float:
    """Seconds of one optimizer step on up to two rows of each intent, loading not included.

    The base in the folder is only read, and no file outlives the call; MLflow is not asked. Several processes, and
    trusted languages that are yet to be measured, are tried as one process and the source language.

    Raises:
        MlcError: the settings do not fit the base or the rows, or the loss or gradient is not finite.
    """
    from transformers import PrinterCallback
    from transformers.trainer_utils import SaveStrategy

    from mlc.training import fits_base
    from mlc.training.build import build_trainer, with_pairs

    fits_base.check(train, base_folder)
    usable = with_pairs(rows, languages.source)
    few = [row for intent in ("harmful", "benign") for row in [r for r in usable if r.intent == intent][:2]]
    objective = train.objective
    if objective.trusted_languages == "auto":
        objective = objective.model_copy(update={"trusted_languages": (languages.source,)})
    present = [tag for tag in languages.served if any(tag in row.prompts for row in few)]
    small = train.model_copy(
        update={
            "max_steps": 1,
            "batch_size": min(train.batch_size, len(few)) if train.paradigm != "kto" else 2,
            "gradient_accumulation_steps": 1,
            "processes": 1,
            "accelerate": None,
            "objective": objective.model_copy(update={"every": 1}),
        }
    )
    with TemporaryDirectory(prefix="mlc-trial-") as folder:
        paths = Paths(Path(folder))
        paths.base.parent.mkdir(parents=True)
        paths.base.symlink_to(base_folder.resolve(), target_is_directory=True)
        trainer, _ = build_trainer(few, languages.model_copy(update={"served": tuple(present)}), small, paths)
        trainer.args.save_strategy = SaveStrategy.NO
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started
