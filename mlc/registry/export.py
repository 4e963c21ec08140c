"""A registered version as a plain Hugging Face folder, which transformers and vLLM load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlc.errors import IntegrityError, MlcError
from mlc.files import differences, read_json, replacing, sha256_folder, write_json
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import ADAPTER, is_adapter
from mlc.paths import Paths
from mlc.registry import model_card
from mlc.registry.model import RegisteredModel
from mlc.registry.verify import VersionFiles, base_of, verified


def export(paths: Paths, name: str, which: str, target: Path, merged: bool = False) -> str:
    """Writes a version's weights, tokenizer, card, manifest and verdict into ``target``. Returns what it is, in words.

    ``merged`` puts an adapter into its base; a full model is the same either way. An adapter that is exported by itself
    names its base of the hub, or has a local one beside it, in ``base/``.

    Raises:
        IntegrityError: the version, or the base fetched for it, is not what was registered.
        MlcError: there is no such version, ``target`` is there already, or the base cannot be had.
    """
    if target.exists():
        raise MlcError(f"{target} is there already: name a folder that is new")
    model = RegisteredModel(paths, name)
    number = str(model.version(which).version)
    with verified(model, number) as folder, replacing(target) as aside:
        version = VersionFiles(folder)
        manifest = version.evidence.manifest()
        adapter = is_adapter(version.weights)
        if adapter and merged:
            with base_of(folder, manifest, paths.base) as base:
                _merge(version.weights, base, aside)
        else:
            _copy(version.weights, aside, manifest.files)
            if adapter:
                _name_base(version, manifest, aside)
        for file in (version.weights / manifests.NAME, version.evidence.verdict_file, folder / model_card.NAME):
            shutil.copy(file, aside / file.name)
    kind = "adapter" if adapter and not merged else "adapter, merged" if adapter else "full weights"
    return f"version {number} of {name} is in {target}: {kind}, hashes as registered"


def _copy(source: Path, target: Path, hashes: dict[str, str]) -> None:
    """Copies files and hashes the copies: a full disk or a flipped bit is not passed on."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(manifests.NAME))
    if changes := differences(hashes, sha256_folder(target)):
        raise IntegrityError(f"the copy of {source} is not what was registered: {'; '.join(changes)}; try again")


def _name_base(version: VersionFiles, manifest: Manifest, target: Path) -> None:
    """Says where an adapter's base is; it was trained on a folder of the project."""
    config = read_json(target / ADAPTER, "mlc train")
    if version.base.is_dir():
        _copy(version.base, target / "base", manifest.base.files)
        config |= {"base_model_name_or_path": "base", "revision": None}
    else:
        config |= {"base_model_name_or_path": manifest.base.model, "revision": manifest.base.revision}
    write_json(target / ADAPTER, config)


def _merge(adapter: Path, base: Path, target: Path) -> None:
    """Adds the adapter's product to the base's weights, in float32, and saves them in the base's own precision."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    safe: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
    whole: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **safe)
    merged = PeftModel.from_pretrained(whole, adapter, use_safetensors=True).merge_and_unload()
    stored = read_json(base / "config.json", "mlc base")
    own = stored.get("dtype") or stored.get("torch_dtype") or "float32"
    merged.to(getattr(torch, own)).save_pretrained(target)
    AutoTokenizer.from_pretrained(adapter, trust_remote_code=False).save_pretrained(target)
