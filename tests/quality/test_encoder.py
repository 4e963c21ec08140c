from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlc.errors import MlcError
from mlc.prompts.schema import PromptRow
from mlc.quality import encoder
from mlc.quality.checks import add_quality, long_frame
from mlc.quality.encoder import Encoder

from .conftest import with_text

sentence_transformers = pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag-of-characters encoder with random vectors: texts of the same letters are alike, in whatever order."""
    from sentence_transformers.models import Pooling, Transformer
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = {c: n for n, c in enumerate(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    wrapped.save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    made = sentence_transformers.SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    made.save(str(folder / "encoder"))
    return folder / "encoder"


def test_texts_fit_their_rows_and_find_their_sources(model: Path) -> None:
    sources = ["paint the boat", "sell a bicycle", "zzz qqq", None, "wash my windows"]
    texts = ["paint the boat", "zzz qqq", None, "boat", "wash windows"]
    vectors = Encoder(str(model), None).encode({"en": sources, "es": texts})
    assert np.linalg.norm(vectors["en"][0]) == pytest.approx(1.0, abs=1e-4)
    assert np.isnan(vectors["es"]).all(axis=1).tolist() == [text is None for text in texts]
    fit = encoder.fits(vectors, "es")
    assert fit[0, 0] > fit[0, 1] and fit[1, 2] > fit[1, 1] and fit[4, 4] > fit[4, 0]
    assert (fit[2] == 0).all() and (fit[:, 3] == 0).all()
    assert encoder.retrieved(vectors, "es", "en").tolist() == [True, False, None, None, True]


def test_a_model_of_prompts_sees_them_before_both_sides(model: Path, tmp_path: Path) -> None:
    plain = sentence_transformers.SentenceTransformer(str(model), device="cpu")
    for name, default in (("usual", "query"), ("only-named", None)):
        prompted = sentence_transformers.SentenceTransformer(
            modules=list(plain), prompts={"query": "query: "}, default_prompt_name=default, device="cpu"
        )
        prompted.save(str(tmp_path / name))
        seen = Encoder(str(tmp_path / name), None).encode({"en": ["paint the boat"]})["en"]
        assert seen == pytest.approx(plain.encode(["query: paint the boat"], normalize_embeddings=True), abs=1e-5)
    assert Encoder(str(model), None).encode({"en": ["paint"]})["en"] == pytest.approx(
        plain.encode(["paint"], normalize_embeddings=True), abs=1e-5
    )


def test_swapped_texts_are_found_in_a_set_too_small_for_its_words(model: Path) -> None:
    """Thirty rows: an encoder knows its languages without the set; its limit comes from the set's own wrong pairs."""
    rows = [
        PromptRow(id=f"r{n}", source="test", category="test", intent="benign", prompts={"en": text, "es": text})
        for n, text in enumerate(world_texts(60))
    ]
    rows[3], rows[30] = (
        with_text(rows[3], "es", rows[30].prompts["en"]),
        with_text(rows[30], "es", rows[3].prompts["en"]),
    )
    lines = long_frame({"alignment": rows}, ("en", "es"), "en")
    without, with_it = (
        add_quality(lines, "en", ("alignment",), encoder=each).set_index(["id", "language"])
        for each in (None, Encoder(str(model), None))
    )
    assert without.loc[("r3", "es"), "misplaced"] is None
    assert with_it.loc[("r3", "es"), "misplaced"] is True
    assert with_it.loc[("r30", "es"), "misplaced"] is True
    assert with_it["misplaced"].eq(True).sum() == 2


def world_texts(count: int) -> list[str]:
    """Different requests of letters that tell them apart."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 12)) for _ in range(count)]


def test_a_model_that_is_not_there_is_a_mistake_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=r"validate\.encoder: .*nothing cannot be loaded") as raised:
        Encoder(str(tmp_path / "nothing"), None)
    assert "\n" not in str(raised.value)
