"""The base, the model that alignment starts from: copied from a folder, or fetched by its pinned revision."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import MlcError
from mlc.files import replacing
from mlc.models import template_arguments
from mlc.models.architecture import check_architecture
from mlc.settings import Base
from mlc.text import one_line

if TYPE_CHECKING:
    from mlc.models.chat_template import ChatTemplate

# Weights without pickle, configuration, tokenizer, the card with its licence: no code is ever fetched.
PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md")
NEEDED = ("config.json", "tokenizer_config.json")
INDEX = "model.safetensors.index.json"  # names the file of every tensor, where there are several
LFS = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched


def place(base: Base, root: Path, target: Path) -> ChatTemplate:
    """Puts the base model into the folder ``target``, its chat template with the arguments that the settings give it.

    A folder that the settings name lies below ``root``.

    Raises:
        MlcError: there is no such model, its chat template takes no such argument, or see :func:`check_files`.
    """
    with replacing(target) as aside:
        source = root / base.model
        if source.is_dir():
            copy_files(source, aside)
        else:
            _fetch(base, aside)
        template = check_files(base.model, aside)
        if base.template_arguments:
            from mlc.models.chat_template import check_chat_template

            template_arguments.write(base.model, aside, base.template_arguments)
            template = check_chat_template(base.model, aside)
        return template


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


def check_files(name: str, folder: Path) -> ChatTemplate:
    """Opens what a model's folder holds: its files, the headers of its weights, its architecture and its chat template.

    Returns what the template does.

    Raises:
        MlcError: something is missing, was not fetched, is cut off, cannot be read or is not supported.
    """
    for needed in NEEDED:
        if not (folder / needed).is_file():
            raise MlcError(f"base.model = {name}: {needed} is missing; a model with its tokenizer is needed")
    for file in sorted({file for pattern in PATTERNS for file in folder.glob(pattern)}):
        with file.open("rb") as opened:
            if opened.read(len(LFS)) == LFS:
                raise MlcError(
                    f"base.model = {name}: {file.name} is a pointer of Git LFS, not the file: run `git lfs pull` where"
                    " it was cloned"
                )
    for config_file in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / config_file).is_file():
            _json(name, folder / config_file)
    parameters(name, folder)
    check_architecture(folder, name)
    from mlc.models.chat_template import check_chat_template

    return check_chat_template(name, folder)


def _json(name: str, path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MlcError(f"base.model = {name}: {path.name} is no JSON: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise MlcError(f"base.model = {name}: {path.name} holds no object")
    return content


def parameters(name: str, folder: Path) -> int:
    """How many parameters a model's weights files hold, by their headers; nothing else of them is read.

    Raises:
        MlcError: there are none, one that the index names is missing, or one is cut off.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise MlcError(f"base.model = {name}: no *.safetensors; pickled weights are not loaded, convert them first")
    if (folder / INDEX).is_file():
        weight_map = _json(name, folder / INDEX).get("weight_map") or {}
        if missing := sorted({str(file) for file in weight_map.values()} - {file.name for file in files}):
            raise MlcError(
                f"base.model = {name}: {len(missing)} of the weights files that {INDEX} names are missing, such as"
                f" {missing[0]}: fetch the model again"
            )
    count = 0
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118 (no mapping)
                    size = 1
                    for width in tensors.get_slice(tensor).get_shape():
                        size *= width
                    count += size
        except (SafetensorError, OSError) as error:
            raise MlcError(
                f"base.model = {name}: {file.name} ({file.stat().st_size:,} bytes) holds no whole weights:"
                f" {one_line(error)}; fetch it again"
            ) from None
    if not count:
        raise MlcError(f"base.model = {name}: the weights files hold no tensor")
    return count
