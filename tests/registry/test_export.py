"""An exported version is a plain folder that transformers loads, and answers as the registered one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from versions import NAME, Registry

from mlc.errors import IntegrityError, MlcError
from mlc.files import sha256_folder
from mlc.models.loading import load_model
from mlc.models.weights import pickles
from mlc.registry.export import export
from mlc.registry.verify import MODEL


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    lora = LoraConfig(r=2, target_modules=["q_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), lora).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Registry(tmp_path, store)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def with_adapter(base: Path, adapter: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))


def test_full_weights_are_exported_as_they_are(registry: Registry, tiny_base: Path) -> None:
    version, target = registry.add(model=tiny_base), registry.root / "out"
    message = export(registry.paths, NAME, version, target, merged=True)
    assert "full weights" in message
    assert sha256_folder(tiny_base).items() <= sha256_folder(target).items()
    assert ModelCard.load(target / "README.md").data.to_dict()["language"] == ["en", "es"]
    assert {"manifest.json", "verdict.json"} <= {file.name for file in target.iterdir()}
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(target)), logits(AutoModelForCausalLM.from_pretrained(tiny_base))
    )
    with pytest.raises(MlcError, match="out is there already"):
        export(registry.paths, NAME, version, target)


def test_an_adapter_is_merged_into_the_base_of_its_version(registry: Registry, tiny_base: Path, adapter: Path) -> None:
    registry.promoted(registry.add(model=adapter, base=tiny_base))
    target = registry.root / "out"
    export(registry.paths, NAME, "champion", target, merged=True)
    assert not (target / "adapter_config.json").exists() and not pickles(target)
    plain = logits(AutoModelForCausalLM.from_pretrained(target))
    assert torch.allclose(plain, with_adapter(tiny_base, adapter), atol=1e-5)
    assert not torch.allclose(plain, logits(AutoModelForCausalLM.from_pretrained(tiny_base)), atol=1e-3)
    chat = [{"role": "user", "content": "How do I bake bread?"}]
    one, two = (AutoTokenizer.from_pretrained(folder) for folder in (target, adapter))
    assert one.apply_chat_template(chat)["input_ids"] == two.apply_chat_template(chat)["input_ids"]


def test_a_merged_adapter_is_what_was_evaluated(registry: Registry, tiny_base: Path, adapter: Path) -> None:
    """To the last bit, also over a base that is stored in another precision; and it ends where it did."""
    base = registry.root / "base"
    stored: Any = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    stored.generation_config.update(num_beams=4, no_repeat_ngram_size=2, eos_token_id=5)
    stored.save_pretrained(base)
    registry.promoted(registry.add(model=adapter, base=base))
    export(registry.paths, NAME, "champion", registry.root / "out", merged=True)
    evaluated, tokenizer = load_model(adapter, base, "float32")
    exported: Any = AutoModelForCausalLM.from_pretrained(registry.root / "out")
    for name, tensor in evaluated.state_dict().items():
        assert torch.equal(tensor, exported.state_dict()[name]), name
    settings = json.loads((registry.root / "out" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == sorted([5, tokenizer.eos_token_id])
    assert not settings.keys() & {"num_beams", "no_repeat_ngram_size"}


def test_an_adapter_by_itself_says_where_its_base_is(registry: Registry, tiny_base: Path, adapter: Path) -> None:
    local, hub = registry.add(model=adapter, base=tiny_base), registry.add(model=adapter, base=tiny_base, hub="1" * 40)
    export(registry.paths, NAME, local, registry.root / "local")
    export(registry.paths, NAME, hub, registry.root / "hub")
    assert torch.equal(
        with_adapter(registry.root / "local" / "base", registry.root / "local"), with_adapter(tiny_base, adapter)
    )
    config = json.loads((registry.root / "hub" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "1" * 40)


def test_a_hub_base_is_the_projects_where_that_is_the_same(registry: Registry, tiny_base: Path, adapter: Path) -> None:
    version = registry.add(model=adapter, base=tiny_base, hub="1" * 40)
    registry.paths.base.parent.mkdir()
    registry.paths.base.symlink_to(tiny_base)
    export(registry.paths, NAME, version, registry.root / "out", merged=True)
    registry.paths.base.unlink()
    registry.paths.base.mkdir()
    (registry.paths.base / "config.json").write_text("{}")
    with pytest.raises(MlcError, match=r"org/base at 1+ could not be fetched"):
        export(registry.paths, NAME, version, registry.root / "other", merged=True)
    assert not (registry.root / "other").exists()


def test_what_differs_is_not_exported(registry: Registry, tiny_base: Path) -> None:
    version = registry.add(model=tiny_base)
    weights = registry.file(version, f"{MODEL}/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match=r"changed: artifacts/model/model\.safetensors"):
        export(registry.paths, NAME, version, registry.root / "out")
    assert not (registry.root / "out").exists()
