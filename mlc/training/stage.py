"""The train stage: clean prompts and a base model in, an aligned model with its manifest out."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the libraries below are imported
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # ORPO, CPO and SimPO live there

import csv
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar as no_datasets_bars
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints
from transformers.utils import is_bitsandbytes_available
from transformers.utils.logging import disable_progress_bar as no_transformers_bars

from mlc import tracking
from mlc.errors import MlcError
from mlc.files import link_folder, read_json, replacing, sha256, sha256_folder, sha256_json, write_json
from mlc.languages.trusted import TrustedLanguages
from mlc.models import manifest
from mlc.paths import Paths, candidate_name
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Base, Languages, Section, Train, flat
from mlc.training.candidates import CandidatesCallback, save
from mlc.training.config import MLCCPOConfig, MLCDPOConfig, MLCKTOConfig, MLCORPOConfig, MLCSFTConfig
from mlc.training.trainers import (
    MLCCPOTrainer,
    MLCDPOTrainer,
    MLCKTOTrainer,
    MLCORPOTrainer,
    MLCSFTTrainer,
)

AnyTrainer = MLCDPOTrainer | MLCSFTTrainer | MLCORPOTrainer | MLCCPOTrainer | MLCKTOTrainer
IDENTITY = "identity.json"  # among the checkpoints: of what they were made
SIZES = "sizes.json"  # in a checkpoint: of its files in bytes, written last
HEADLINES = ("loss", "rewards/accuracies", "mlc/loss", "mlc/refusal", "mlc/retain")


class Job(Section):
    """What the training processes are told: the settings, the project's ``root``, the hash of the ``prompts`` that
    the checkpoints are said to be of, the ``folder`` to save candidates into, the MLflow run, and the checkpoint to go
    on from."""

    languages: Languages
    train: Train
    root: str
    prompts: str
    folder: str
    run_id: str
    checkpoint: str | None


def run(languages: Languages, base: Base, train: Train, paths: Paths) -> None:
    """Trains the candidates into ``artifacts/candidates``; logs to ``artifacts/training`` and to MLflow.

    An interrupted training goes on from its last checkpoint, if data, base and settings are still the same; the
    candidates up to there are kept beside the checkpoints.

    Raises:
        MlcError: prompts, base or accelerate's configuration are missing, the prompts do not fit the method, or
            one of several processes failed.
    """
    training_set(read_prompts(paths.prompts / "alignment.jsonl", made_by="mlc validate"), languages, train)
    if not paths.base.is_dir():
        raise MlcError(f"{paths.base} does not exist: run `mlc base` first")
    if train.objective.trusted_languages == "auto":
        trusted = tuple(TrustedLanguages.of(paths).trusted)
        measured = train.objective.model_copy(update={"trusted_languages": trusted})
        train = train.model_copy(update={"objective": measured})
    if train.processes > 1 and train.accelerate and not (paths.root / train.accelerate).is_file():
        raise MlcError(f"train.accelerate: {paths.root / train.accelerate} does not exist")
    base_files = sha256_folder(paths.base)
    prompts = sha256(paths.prompts / "alignment.jsonl")
    identity = sha256_json(
        {
            "train": train.model_dump(mode="json"),
            "languages": languages.model_dump(mode="json"),
            "prompts": prompts,
            "base": base_files,
        }
    )
    checkpoint = _prepare_checkpoints(paths.checkpoints, identity)
    params = flat({"train": train.model_dump(mode="json")})
    with tracking.run(paths, name=f"{train.paradigm}-{train.objective.name}", params=params) as run_id:
        write_json(paths.training / "mlflow_run.json", {"run_id": run_id, "experiment": tracking.experiment_name()})
        made = paths.checkpoints / "candidates"
        job = Job(
            languages=languages,
            train=train,
            root=str(paths.root),
            prompts=prompts,
            folder=str(made),
            run_id=run_id,
            checkpoint=checkpoint,
        )
        if train.processes == 1:
            fit(job)
        else:
            _launch(job, paths)
        _check_unchanged(paths, prompts)
        for aside in made.glob(".*.partial"):  # of a kill
            shutil.rmtree(aside)
        for candidate in made.iterdir():
            manifest.write(
                candidate,
                languages=languages,
                train=train,
                base_model=base.model,
                base_revision=base.revision,
                paths=paths,
                step=int(candidate.name.removeprefix("step-")),
                base_files=base_files,
            )
        tracking.log_artifacts(paths, run_id, paths.training, "training")
    link_folder(made, paths.candidates)
    (paths.checkpoints / IDENTITY).unlink()  # first, as the rest is of no use once some of it is gone
    shutil.rmtree(paths.checkpoints)


def _check_unchanged(paths: Paths, prompts: str) -> None:
    path = paths.prompts / "alignment.jsonl"
    if sha256(path) != prompts:
        raise MlcError(f"{path} was changed while it was trained on: run `mlc validate` and `mlc train` again")


def fit(job: Job) -> AnyTrainer:
    """Trains, saves the model, and writes the log; all processes call it, and the main one writes.

    Returns the trainer, for a process that has to end before the trainer does.

    Raises:
        MlcError: the prompts are not those that the job is of; or see :func:`build_trainer`.
    """
    paths = Paths(Path(job.root))
    rows = read_prompts(paths.prompts / "alignment.jsonl", made_by="mlc validate")
    _check_unchanged(paths, job.prompts)
    trainer, tokenizer = build_trainer(rows, job.languages, job.train, paths)
    if trainer.accelerator.num_processes != job.train.processes:
        raise MlcError(
            f"train.processes = {job.train.processes}, but {trainer.accelerator.num_processes} train together: "
            f"{job.train.accelerate} does not fit this machine"
        )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TrackingCallback(paths, job.run_id))
    trainer.add_callback(SizesCallback())
    folder = Path(job.folder)
    if job.train.candidate_steps is not None:
        trainer.add_callback(CandidatesCallback(trainer, folder, tokenizer, job.train.candidate_steps))
    trainer.train(resume_from_checkpoint=job.checkpoint)
    save(trainer, folder / candidate_name(job.train.max_steps), tokenizer)
    if trainer.is_world_process_zero():
        _write_log(trainer.state.log_history, paths.training)
    trainer.accelerator.end_training()
    return trainer


def _launch(job: Job, paths: Paths) -> None:
    """Runs :func:`fit` in several processes, which end with this one.

    Raises:
        MlcError: they failed.
    """
    assert job.train.accelerate is not None
    told = paths.checkpoints / "job.json"
    write_json(told, job.model_dump(mode="json"))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(paths.root / job.train.accelerate), "--num_processes", str(job.train.processes)]
    launcher = subprocess.Popen([*command, "-m", "mlc.training.launch", str(told)])
    try:
        status = launcher.wait()
    finally:
        launcher.terminate()  # after an exception here; its handler ends the processes that it started
        launcher.wait()
    if status:
        raise MlcError(
            f"training in {job.train.processes} processes ended with status {status}: the first error or traceback "
            f"above says why. Does train.processes = 1 work, and does {job.train.accelerate} fit this machine?"
        )


def _prepare_checkpoints(folder: Path, identity: str) -> str | None:
    """The checkpoint to go on from; checkpoints of other data, base or settings, and unfinished ones, are removed."""
    marker = folder / IDENTITY
    if not marker.is_file() or read_json(marker, "mlc train").get("identity") != identity:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(marker, {"identity": identity})
        return None
    for last in map(Path, reversed(sort_checkpoints(str(folder)))):
        if _finished(last):
            print(f"going on from {last}")
            return str(last)
        shutil.rmtree(last)
    return None


def _finished(checkpoint: Path) -> bool:
    """Whether all of a checkpoint is there: a machine that goes down leaves files cut off, and not in order."""
    try:
        sizes = json.loads((checkpoint / SIZES).read_text(encoding="utf-8"))
        # Larger is well: another process may still have been writing its own part when this was listed.
        return all((checkpoint / name).stat().st_size >= size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def training_set(rows: list[PromptRow], languages: Languages, train: Train) -> Dataset:
    """One row per preference pair in the source language (two for kto), with the objective's columns.

    Raises:
        MlcError: no row has a pair, or the method needs harmful and benign prompts and one kind is missing.
    """
    rows = [row for row in rows if row.chosen is not None and languages.source in row.prompts]
    if not rows:
        raise MlcError(f"no alignment prompt has 'chosen' and 'rejected' replies and a prompt in {languages.source}")
    kinds = {row.intent for row in rows}
    if train.objective.name == "direction" and train.objective.weight and len(kinds) < 2:
        raise MlcError(f"the direction objective compares harmful with benign prompts, and all are {kinds.pop()}")
    examples: list[dict[str, Any]] = []
    for row in rows:
        replies = {name: [{"role": "assistant", "content": getattr(row, name)}] for name in ("chosen", "rejected")}
        common = {
            "prompt": [{"role": "user", "content": row.prompts[languages.source]}],
            "variants": {tag: row.prompts.get(tag) for tag in languages.served},
            "harmful": row.intent == "harmful",
        }
        if train.paradigm == "sft":
            examples.append(common | {"completion": replies["chosen"]})
        elif train.paradigm == "kto":
            examples += [common | {"completion": replies[name], "label": name == "chosen"} for name in replies]
        else:
            examples.append(common | replies)
    return Dataset.from_list(examples)


def build_trainer(
    rows: list[PromptRow], languages: Languages, train: Train, paths: Paths
) -> tuple[AnyTrainer, PreTrainedTokenizerBase]:
    """The trainer over the base in ``artifacts/base``, ready to train, and the tokenizer as the base has it.

    Raises:
        MlcError: no prompts to train on, or a way to split the model that does not work.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # about TRL's own calls
    no_datasets_bars()
    no_transformers_bars()
    dtype = getattr(torch, train.precision)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        paths.base,
        dtype=dtype,
        quantization_config=_quantization(train),
        trust_remote_code=False,
        use_safetensors=True,  # never a pickle
    )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(paths.base)
    dataset = training_set(rows, languages, train)
    objective = train.objective
    common: dict[str, Any] = {
        "output_dir": str(paths.checkpoints),
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(train.warmup_ratio * train.max_steps),
        "per_device_train_batch_size": train.batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "max_length": train.max_length,
        "bf16": train.precision == "bfloat16",
        "gradient_checkpointing": train.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if train.gradient_checkpointing else None,
        "ddp_find_unused_parameters": False,
        "seed": train.seed,
        "save_steps": train.save_steps,
        "save_total_limit": 2,
        "logging_steps": max(1, train.max_steps // 20),
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.accelerator.is_available(),  # else several processes on CPU would each train alone
        "report_to": "none",
        "mlc_languages": sorted(languages.served, key=lambda tag: tag != languages.source),  # the source first
        "mlc_objective": objective.name,
        "mlc_weight": objective.weight,
        "mlc_every": objective.every,
        "mlc_layer": objective.layer,
        "mlc_temperature": objective.temperature,
        "mlc_projection": objective.projection,
        "mlc_anchored": objective.anchored,
        "mlc_centred": objective.centred,
        "mlc_contrast_weight": objective.contrast_weight,
        "mlc_trusted_languages": list(objective.trusted_languages),
        "mlc_hinge": objective.hinge,
        "mlc_refusal_weight": objective.refusal_weight,
        "mlc_retain_weight": objective.retain_weight,
        "mlc_chunk_tokens": objective.chunk_tokens,
    }
    lora = train.lora and LoraConfig(
        r=train.lora.r,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        target_modules=train.lora.target_modules
        if isinstance(train.lora.target_modules, str)
        else list(train.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    rest: dict[str, Any] = {"train_dataset": dataset, "processing_class": tokenizer, "peft_config": lora or None}
    trainer: AnyTrainer
    if train.paradigm == "sft":
        trainer = MLCSFTTrainer(model, MLCSFTConfig(**common, completion_only_loss=True), **rest)
    elif train.paradigm == "orpo":
        trainer = MLCORPOTrainer(model, MLCORPOConfig(**common, beta=train.beta), **rest)
    elif train.paradigm == "kto":
        trainer = MLCKTOTrainer(model, MLCKTOConfig(**common, beta=train.beta), **rest)
    elif train.paradigm == "simpo":
        simpo: dict[str, Any] = {"loss_type": "simpo", "simpo_gamma": train.simpo_gamma, "cpo_alpha": train.sft_weight}
        trainer = MLCCPOTrainer(model, MLCCPOConfig(**common, beta=train.beta, **simpo), **rest)
    else:
        # The chosen reply's likelihood beside DPO keeps it from decaying, which turns replies to garbage.
        losses: dict[str, Any] = (
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, train.sft_weight]} if train.sft_weight else {}
        )
        trainer = MLCDPOTrainer(model, MLCDPOConfig(**common, beta=train.beta, **losses), **rest)
    _check_split(trainer.accelerator.state, train)
    return trainer, tokenizer


def _quantization(train: Train) -> BitsAndBytesConfig | None:
    """How the base is held in 4 bits beneath an adapter (QLoRA, arXiv 2305.14314), None where it is not.

    Raises:
        MlcError: bitsandbytes is not installed.
    """
    if train.lora is None or not train.lora.load_in_4bit:
        return None
    if not is_bitsandbytes_available():
        raise MlcError('train.lora.load_in_4bit needs bitsandbytes: pip install "mlc-pipeline[qlora]"')
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, train.precision),
    )


def _check_split(state: Any, train: Train) -> None:
    """Refuses ways to split the model over processes that do not work; ``state`` is accelerate's.

    Raises:
        MlcError: an adapter under DeepSpeed ZeRO-3, or FSDP without a device that has it.
    """
    deepspeed = getattr(state, "deepspeed_plugin", None)
    if train.lora and deepspeed is not None and deepspeed.zero_stage == 3:
        raise MlcError(
            "train.lora does not go with DeepSpeed ZeRO-3: it gathers the split weights in its engine's own forward "
            "pass, and the objective's goes around the engine. Use ZeRO-2 or DDP, or set train.lora to null"
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and getattr(state, "fsdp_plugin", None) is None:
        raise MlcError(
            f"{train.accelerate} asks for FSDP, which accelerate does not have on {state.device.type}: it would keep "
            "the whole model in every process without saying so. Use recipes/accelerate/ddp.yaml"
        )


class SizesCallback(TrainerCallback):
    """Writes into each finished checkpoint how large its files are."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
            write_json(folder / SIZES, {name: file.stat().st_size for name, file in files.items()})


class TrackingCallback(TrainerCallback):
    """Logs what the trainer logs to its MLflow run, and a line of it to the terminal."""

    def __init__(self, paths: Paths, run_id: str) -> None:
        self.paths = paths
        self.run_id = run_id

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        numbers = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if not (state.is_world_process_zero and numbers):
            return
        tracking.log_metrics(self.paths, self.run_id, numbers, step=state.global_step)
        if "loss" in numbers:
            shown = ", ".join(f"{name} {numbers[name]:.3f}" for name in HEADLINES if name in numbers)
            print(f"step {state.global_step} of {state.max_steps}: {shown}", flush=True)


def _write_log(history: list[dict[str, Any]], folder: Path) -> None:
    """``log.csv``, a line per logged step, and ``metrics.json``, the last one's values."""
    steps = [entry for entry in history if "loss" in entry]
    names = ["step", *sorted({key for entry in steps for key in entry} - {"step", "epoch"})]
    with replacing(folder / "log.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(steps)
    write_json(folder / "metrics.json", {name: steps[-1][name] for name in HEADLINES if name in steps[-1]})
