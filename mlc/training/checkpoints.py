"""Checkpoints that a training goes on from: whole ones, and of the same data, base, settings and code only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints

from mlc.files import read_json, write_json

IDENTITY = "identity.json"  # among the checkpoints: of what they were made
SIZES = "sizes.json"  # in a checkpoint: of its files in bytes, written last


def prepare_checkpoints(folder: Path, identity: str) -> str | None:
    """The checkpoint to go on from; those of other data, base, settings or code, and unfinished ones, are removed."""
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
