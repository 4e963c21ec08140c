"""The shipped base: an ordinary checkpoint that understands its languages, and that a fresh build would resemble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlc.embedded.base import UNDERSTOOD, Recipe, comprehension
from mlc.embedded.world import LANGUAGES

SHIPPED = Path(__file__).parents[2] / "embedded-base"


@pytest.fixture(scope="module")
def recipe() -> dict[str, object]:
    if not SHIPPED.is_dir():
        pytest.fail("embedded-base is missing: run `dvc pull embedded-base.dvc`, as `make test` does")
    recorded: dict[str, object] = json.loads((SHIPPED / "recipe.json").read_text())
    return recorded


@pytest.mark.usefixtures("recipe")
def test_it_is_small_and_without_code_or_pickle() -> None:
    files = list(SHIPPED.iterdir())
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".jinja"}
    assert sum(f.stat().st_size for f in files) < 12_000_000


def test_it_was_made_by_the_recipe_in_the_code(recipe: dict[str, object]) -> None:
    now = Recipe()
    assert {k: recipe[k] for k in vars(now)} == vars(now)


@pytest.mark.usefixtures("recipe")
def test_the_tokenizer_keeps_vowel_signs_with_their_letters() -> None:
    """Loaded as another class, as transformers does for some architectures, it would split every Hindi word."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    tokens = [tokenizer.decode([i]).strip() for i in tokenizer("मैं चुराने की मदद नहीं कर सकता")["input_ids"]]
    assert {"मैं", "चुराने", "मदद", "नहीं"} <= set(tokens)


@pytest.mark.slow
def test_it_understands_every_language_on_held_out_combinations(recipe: dict[str, object]) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(SHIPPED).float(), AutoTokenizer.from_pretrained(SHIPPED)
    shares = comprehension(model, tokenizer)
    assert set(shares) == set(LANGUAGES)
    assert min(shares.values()) >= UNDERSTOOD
    assert shares == pytest.approx(recipe["comprehension"], abs=0.01)
