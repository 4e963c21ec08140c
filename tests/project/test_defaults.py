"""A new project's settings fit its base: its size, and the length of what it is trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlc.embedded import prompts
from mlc.project import defaults
from mlc.prompts.schema import write_prompts


def grown(base: Path, folder: Path, parameters: int) -> Path:
    """The base with a weights file of one tensor of so many bytes, which take no room on the disk."""
    shutil.copytree(base, folder)
    header = json.dumps({"w": {"dtype": "U8", "shape": [parameters], "data_offsets": [0, parameters]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + parameters)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = prompts.rows("alignment")[:64]
    long = rows[0].model_copy(update={"id": "long", "prompts": rows[0].prompts | {"sw": "jaza " * 120}})
    write_prompts(tmp_path / "data" / "alignment.jsonl", [*rows, long])
    return tmp_path / "data"


def test_a_small_base_is_trained_whole(tiny_base: Path, data: Path) -> None:
    found = defaults.defaults(str(tiny_base), None, "en", data)
    assert found.settings == {"train": {"max_length": 256}}  # what the tiny base can hold
    assert "all of them are trained" in found.said[-1]


def test_a_large_base_gets_an_adapter_a_tenth_of_the_rate_and_three_epochs(
    tiny_base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "has_bfloat16", lambda: True)
    folder = grown(tiny_base, tmp_path / "large", 60_000_000)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    settings, said = defaults.defaults(str(folder), None, "en", data)
    train = settings["train"]
    assert train["lora"]["r"] == 16 and train["learning_rate"] == 1e-5 and train["precision"] == "bfloat16"
    assert train["batch_size"] * train["gradient_accumulation_steps"] == 32 and train["max_steps"] == 7  # 3 x 65 / 32
    assert train["max_length"] % 64 == 0 and 256 < train["max_length"] <= 1024
    assert settings["evaluate"] == {"precision": "bfloat16", "max_new_tokens": 512}
    assert "60 million parameters: a LoRA adapter is trained" in said[1] and "train.max_steps 7" in said[2]


def test_of_a_model_that_cannot_be_looked_up_the_size_is_not_guessed_small() -> None:
    settings, said = defaults.defaults("someone/model", "a" * 40, "en", None)
    assert settings["train"]["lora"] is not None and settings["train"]["max_length"] == 1024
    assert "could not be looked up" in said[0]
