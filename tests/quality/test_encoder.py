from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlc.errors import MlcError
from mlc.quality.encoder import Encoder

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
    encoder = sentence_transformers.SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    encoder.save(str(folder / "encoder"))
    return folder / "encoder"


def test_similarity_and_retrieval_see_the_text_that_belongs_elsewhere(model: Path) -> None:
    sources = ["paint the boat", "sell a bicycle", "zzz qqq", None]
    texts = ["paint the boat", "zzz qqq", None, "boat"]
    similarity, retrieved = Encoder(str(model), None).columns({"en": sources, "es": texts}, "en")["es"]
    assert similarity[0] == pytest.approx(1.0, abs=1e-4)
    assert similarity[1] < similarity[0]
    assert np.isnan(similarity[2:]).all()
    assert retrieved.tolist() == [True, False, None, None]


def test_a_model_that_is_not_there_is_a_mistake_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=r"validate\.encoder: .*nothing cannot be loaded") as raised:
        Encoder(str(tmp_path / "nothing"), None)
    assert "\n" not in str(raised.value)
