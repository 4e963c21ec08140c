"""Settings that the base does not fit are named before training; a trial step leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import write_tiny_base

from mlc.errors import MlcError
from mlc.files import sha256_folder
from mlc.project.try_base import one_step
from mlc.prompts.schema import PromptRow
from mlc.settings import Lora
from mlc.training import fits_base

from .test_lengths import LANGUAGES, PARADIGMS, SETTINGS, train


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"objective": {"layer": 12}}, r"^train\.objective\.layer is 12, and the base has layers 1 to 2"),
        ({"objective": {"layer": 0}}, r"^train\.objective\.layer is 0"),
        (
            {"lora": Lora(r=2, target_modules=("query_key_value",))},
            r"^train\.lora\.target_modules holds query_key_value",
        ),
        ({"lora": Lora(r=2, target_modules=("q_proj", "wrong"))}, r"holds wrong, which the base lacks: .*q_proj"),
        ({"lora": Lora(r=2, target_modules=("q_proj", "lm_head"))}, r"^train\.lora\.target_modules holds lm_head"),
    ],
)
def test_what_the_base_lacks_is_named_with_the_settings_path(
    update: dict[str, Any], message: str, tiny_base: Path
) -> None:
    objective = update.pop("objective", {})
    with pytest.raises(MlcError, match=message):
        fits_base.check(train(objective=objective, **update), tiny_base)


def test_what_fits_passes(tiny_base: Path) -> None:
    for layer in (-1, 1, 2):
        fits_base.check(train(objective={"layer": layer}, lora=Lora(r=2)), tiny_base)
    fits_base.check(train(objective={"layer": 12, "weight": 0.0}), tiny_base)
    fits_base.check(train(lora=Lora(r=2, target_modules=("q_proj", "mlp.down_proj"))), tiny_base)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the limit is of CPUs")
def test_four_bits_on_a_cpu_are_refused_where_its_kernel_does_not_take_a_layer(tmp_path: Path) -> None:
    write_tiny_base(tmp_path, width=48)
    with pytest.raises(MlcError, match=r"^train\.lora\.load_in_4bit is true, and on a CPU"):
        fits_base.check(train(lora=Lora(r=2, load_in_4bit=True)), tmp_path)


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_one_step_is_taken_and_nothing_is_left(
    paradigm: str,
    base_without_pad_token: Path,
    alignment_rows: list[PromptRow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By every method, also of a base whose tokenizer has no pad token."""
    before = sha256_folder(base_without_pad_token)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = train(paradigm, {"trusted_languages": "auto"}, lora=Lora(r=2))
    assert one_step(alignment_rows, LANGUAGES, settings, base_without_pad_token) > 0
    assert not list(tmp_path.iterdir()) and sha256_folder(base_without_pad_token) == before


def test_a_step_that_cannot_be_taken_is_an_error(tiny_base: Path, alignment_rows: list[PromptRow]) -> None:
    with pytest.raises(MlcError, match=r"set train\.max_length"):
        one_step(alignment_rows, LANGUAGES, train(max_length=8), tiny_base)
    assert SETTINGS.train.maximum_left_out == 0.02
