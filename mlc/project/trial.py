"""One training step of the base with the project's settings, to see whether it goes: nothing of it is kept."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PrinterCallback
from transformers.trainer_utils import SaveStrategy

from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow
from mlc.settings import Languages, Train
from mlc.training import fits_base
from mlc.training.build import build_trainer


def one_step(rows: list[PromptRow], languages: Languages, train: Train, base: Path) -> float:
    """Seconds of one optimizer step on up to two rows of each intent, loading not included.

    The base in the folder is only read, and no file outlives the call; MLflow is not asked. Several processes, and
    trusted languages that are yet to be measured, are tried as one process and the source language.

    Raises:
        MlcError: the settings do not fit the base or the rows, or the loss or gradient is not finite.
    """
    fits_base.check(train, base)
    usable = [row for row in rows if row.chosen is not None and languages.source in row.prompts]
    few = [row for intent in ("harmful", "benign") for row in [r for r in usable if r.intent == intent][:2]]
    if not few:
        raise MlcError(f"no alignment prompt has 'chosen' and 'rejected' replies and a prompt in {languages.source}")
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
        paths.base.symlink_to(base.resolve(), target_is_directory=True)
        trainer, _ = build_trainer(few, languages.model_copy(update={"served": tuple(present)}), small, paths)
        trainer.args.save_strategy = SaveStrategy.NO
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started
