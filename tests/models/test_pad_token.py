"""A tokenizer without a pad token, as Llama 3, Mistral and GPT-2 have: all works as with one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training.test_lengths import LANGUAGES, PARADIGMS, train
from transformers import AutoTokenizer

from mlc.evaluation.diagnostics import represent
from mlc.models.generation import generate, reference_nll
from mlc.models.inference import load
from mlc.project.try_base import one_step
from mlc.prompts.schema import PromptRow

TAGS = ("en", "hi")


@pytest.fixture(scope="module")
def without(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "base"
    shutil.copytree(tiny_base, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in settings.items() if not k.startswith("pad_token")}))
    assert AutoTokenizer.from_pretrained(folder).pad_token_id is None
    return folder


def test_replies_likelihoods_and_representations_are_the_same(
    without: Path, tiny_base: Path, alignment_rows: list[PromptRow]
) -> None:
    found = []
    for folder in (without, tiny_base):
        model, tokenizer = load(folder, None, "float32")
        asked = [row.prompts[tag] for row in alignment_rows for tag in TAGS]
        replies = [(reply.text, reply.tokens) for reply in generate(model, tokenizer, asked, 8, 200, "replies")]
        chosen = [str(row.chosen) for row in alignment_rows]
        prompts = [row.prompts["en"] for row in alignment_rows]
        likelihoods = [nll for batch in reference_nll(model, tokenizer, prompts, chosen, 200) for nll in batch]
        found.append((replies, likelihoods, represent(alignment_rows, TAGS, "base", -1, (model, tokenizer), 200)))
    assert found[0][0] == found[1][0] and found[0][1] == found[1][1]
    np.testing.assert_array_equal(found[0][2], found[1][2])


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_every_method_trains(paradigm: str, without: Path, alignment_rows: list[PromptRow]) -> None:
    assert one_step(alignment_rows, LANGUAGES, train(paradigm), without) > 0
