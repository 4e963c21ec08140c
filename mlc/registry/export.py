"""A registered version as a plain Hugging Face folder, which transformers and vLLM load."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlc.errors import IntegrityError, MlcError
from mlc.files import differences, read_json, replacing, sha256_folder, write_json
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.models.weights import ADAPTER, is_adapter
from mlc.paths import Paths
from mlc.registry import model_card, package
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
                # A version from before the precision was written down was evaluated in float32, unless set otherwise.
                _merge(version.weights, base, package.serving_config(folder).get("precision", "float32"), aside)
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


def _merge(adapter: Path, base: Path, precision: str, target: Path) -> None:
    """Saves the very model that was evaluated: merged by the same code, in the same precision.

    Of the base's generation settings only the end tokens are kept, as in the evaluation.
    """
    from transformers import GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    from mlc.models import inference

    disable_progress_bar()
    model, tokenizer = inference.load(adapter, base, precision)
    ends = inference.stop_tokens(model.generation_config, tokenizer)
    model.generation_config = GenerationConfig(eos_token_id=ends or None, pad_token_id=inference.pad_token(tokenizer))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
