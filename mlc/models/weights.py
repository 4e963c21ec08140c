"""A model's folder as it lies on the disk: adapter or whole weights, its id, and what may not be in it."""

from __future__ import annotations

from pathlib import Path

from mlc.files import sha256_folder, sha256_json

ADAPTER = "adapter_config.json"  # PEFT's, in the folder of an adapter
PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})


def is_adapter(folder: Path) -> bool:
    """Whether a model's folder holds an adapter over the base, not whole weights."""
    return (folder / ADAPTER).is_file()


def weights_id(folder: Path) -> str:
    """Twelve digits that stand for a model's folder, in the ``model`` field of its sample lines."""
    return sha256_json(sha256_folder(folder))[:12]


def pickles(folder: Path) -> list[str]:
    """The files of a model that are pickles by their name, or hold some."""
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.suffix.lower() in PICKLES)
