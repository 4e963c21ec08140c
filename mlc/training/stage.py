"""The train stage: clean prompts and a base model in, an aligned model with its manifest out."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mlc import tracking
from mlc.errors import MlcError
from mlc.files import link_folder, replacing, sha256, sha256_folder, sha256_json, write_json
from mlc.languages.trusted import TrustedLanguages
from mlc.models import manifest
from mlc.paths import Paths, candidate_name
from mlc.prompts.schema import read_prompts
from mlc.provenance import code
from mlc.settings import Base, Languages, Section, Train, flat
from mlc.training import fits_base
from mlc.training.build import AnyTrainer, build_trainer, training_set
from mlc.training.candidates import CandidatesCallback, save
from mlc.training.checkpoints import IDENTITY, SizesCallback, prepare_checkpoints
from mlc.training.lengths import fitting

# The code that decides what is trained: checkpoints of other code are not gone on from.
CODE = ("mlc/languages", "mlc/models", "mlc/training")
SHOWN_METRICS = ("loss", "rewards/accuracies", "mlc/loss", "mlc/refusal", "mlc/retain")


class Job(Section):
    """What the training processes are told: the settings, the project's ``root``, the hashes of the ``prompts`` and of
    the imported ``package`` that the checkpoints are said to be of, the ``folder`` to save candidates into, the MLflow
    run, and the checkpoint to go on from."""

    languages: Languages
    train: Train
    root: str
    prompts: str
    package: str
    folder: str
    run_id: str
    checkpoint: str | None


def run(languages: Languages, base: Base, train: Train, paths: Paths) -> None:
    """Trains the candidates into ``artifacts/candidates``; logs to ``artifacts/training`` and to MLflow.

    An interrupted training goes on from its last checkpoint, if data, base, settings and code are still the same; the
    candidates up to there are kept beside the checkpoints. A manifest names the commit at the training's start.

    Raises:
        MlcError: prompts, base or accelerate's configuration are missing, the prompts do not fit the method or the
            settings the base, a loss or gradient is not finite, or one of several processes failed.
    """
    started, package = code.state(paths.root), code.package_hash()
    rows = read_prompts(paths.prompts / "alignment.jsonl", made_by="mlc validate")
    training_set(rows, languages, train)
    if not paths.base.is_dir():
        raise MlcError(f"{paths.base} does not exist: run `mlc base` first")
    if train.objective.trusted_languages == "auto":
        trusted = tuple(TrustedLanguages.of(paths).trusted)
        measured = train.objective.model_copy(update={"trusted_languages": trusted})
        train = train.model_copy(update={"objective": measured})
    if train.processes > 1 and train.accelerate and not (paths.root / train.accelerate).is_file():
        raise MlcError(f"train.accelerate: {paths.root / train.accelerate} does not exist")
    fits_base.check(train, paths.base)
    _, trained_on = fitting(rows, languages, train, AutoTokenizer.from_pretrained(paths.base))
    print(f"training: {trained_on.text}", flush=True)
    base_files = sha256_folder(paths.base)
    prompts = sha256(paths.prompts / "alignment.jsonl")
    identity = sha256_json(
        {
            "train": train.model_dump(mode="json"),
            "languages": languages.model_dump(mode="json"),
            "prompts": prompts,
            "base": base_files,
            "code": code.part_hashes(CODE),
        }
    )
    checkpoint = prepare_checkpoints(paths.checkpoints, identity)
    params = flat({"train": train.model_dump(mode="json")})
    with tracking.run(paths, name=f"{train.paradigm}-{train.objective.name}", params=params) as run_id:
        write_json(paths.training / "mlflow_run.json", {"run_id": run_id, "experiment": tracking.experiment_name()})
        candidates_folder = paths.checkpoints / "candidates"
        job = Job(
            languages=languages,
            train=train,
            root=str(paths.root),
            prompts=prompts,
            package=package,
            folder=str(candidates_folder),
            run_id=run_id,
            checkpoint=checkpoint,
        )
        if train.processes == 1:
            fit(job)
        else:
            _launch(job, paths)
        _check_unchanged(paths, prompts)
        for aside in candidates_folder.glob(".*.partial"):  # of a kill
            shutil.rmtree(aside)
        for candidate in candidates_folder.iterdir():
            manifest.write(
                candidate,
                languages=languages,
                train=train,
                base_model=base.model,
                base_revision=base.revision,
                paths=paths,
                step=int(candidate.name.removeprefix("step-")),
                base_files=base_files,
                git=started,
                trained_on=trained_on,
            )
        tracking.log_artifacts(paths, run_id, paths.training, "training")
    link_folder(candidates_folder, paths.candidates)
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
        MlcError: the prompts or the code are not those that the job is of; or see :func:`build_trainer`.
    """
    paths = Paths(Path(job.root))
    rows = read_prompts(paths.prompts / "alignment.jsonl", made_by="mlc validate")
    _check_unchanged(paths, job.prompts)
    if code.package_hash() != job.package:
        raise MlcError("mlc's own code was changed while it trained: run `mlc train` again")
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
    job_file = paths.checkpoints / "job.json"
    write_json(job_file, job.model_dump(mode="json"))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(paths.root / job.train.accelerate), "--num_processes", str(job.train.processes)]
    launcher = subprocess.Popen([*command, "-m", "mlc.training.launch", str(job_file)])
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
            summary = ", ".join(f"{name} {numbers[name]:.3f}" for name in SHOWN_METRICS if name in numbers)
            print(f"step {state.global_step} of {state.max_steps}: {summary}", flush=True)


def _write_log(history: list[dict[str, Any]], folder: Path) -> None:
    """``log.csv``, a line per logged step, and ``metrics.json``, the last one's values."""
    steps = [entry for entry in history if "loss" in entry]
    names = ["step", *sorted({key for entry in steps for key in entry} - {"step", "epoch"})]
    with replacing(folder / "log.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(steps)
    write_json(folder / "metrics.json", {name: steps[-1][name] for name in SHOWN_METRICS if name in steps[-1]})
