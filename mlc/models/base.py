"""The base, the model that alignment starts from: copied from a folder, or fetched by its pinned revision."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mlc.errors import MlcError
from mlc.files import replacing
from mlc.models.architecture import check_architecture
from mlc.settings import Base

# Weights without pickle, configuration, tokenizer, the card with its licence: no code is ever fetched.
PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md")
NEEDED = ("config.json", "tokenizer_config.json")


def place(base: Base, root: Path, target: Path) -> None:
    """Puts the base model into the folder ``target``; a folder that it names lies below ``root``.

    Raises:
        MlcError: there is no such model, or it lacks weights, configuration, tokenizer or chat template.
    """
    with replacing(target) as aside:
        source = root / base.model
        if source.is_dir():
            copy_files(source, aside)
        else:
            _fetch(base, aside)
        check_files(base.model, aside)


def copy_files(source: Path, folder: Path) -> None:
    """Copies the files of a model that are used: weights without pickle, configuration and tokenizer."""
    folder.mkdir()
    for file in (f for pattern in PATTERNS for f in source.glob(pattern)):
        shutil.copy2(file, folder / file.name)


def check_pin(model: str, revision: str | None) -> None:
    """Raises ``MlcError`` for a model of the hub without its commit."""
    if revision is None:
        raise MlcError(
            f"base.model = {model}: no such folder. `dvc pull embedded-base.dvc` fetches the shipped one; "
            "a model of the hub needs base.revision, its commit"
        )
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise MlcError(f"base.revision = {revision}: a branch or tag can move; give the commit, 40 hexadecimal digits")


def _fetch(base: Base, folder: Path) -> None:
    check_pin(base.model, base.revision)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(base.model, revision=base.revision, local_dir=folder, allow_patterns=list(PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise MlcError(f"base.model = {base.model} at {base.revision} could not be fetched: {first}") from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def check_files(name: str, folder: Path) -> None:
    """Raises ``MlcError`` when the folder lacks weights, configuration, tokenizer or chat template."""
    for needed in NEEDED:
        if not (folder / needed).is_file():
            raise MlcError(f"base.model = {name}: {needed} is missing; a model with its tokenizer is needed")
    if not list(folder.glob("*.safetensors")):
        raise MlcError(f"base.model = {name}: no *.safetensors; pickled weights are not loaded, convert them first")
    in_config = "chat_template" in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    if not (in_config or (folder / "chat_template.jinja").is_file()):
        raise MlcError(f"base.model = {name}: the tokenizer has no chat template; an instruct model is needed")
    check_architecture(folder, name)
