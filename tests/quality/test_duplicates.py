from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlc.quality import duplicates
from mlc.quality.ngram_model import ngrams


def jaccard(a: str, b: str) -> float:
    one, two = (set(ngrams([text]).indices.tolist()) for text in (a, b))
    return len(one & two) / len(one | two)


@pytest.mark.parametrize(
    "other",
    [
        "Please explain to me in detail how I can paint the old boat of my aunt.",
        "Please explain to me in detail how I can sell the old bicycle of my aunt.",
        "What is the weather like in the mountains at this time of the year?",
    ],
)
def test_signatures_estimate_what_two_texts_have_in_common(other: str) -> None:
    text = "Please explain to me in detail how I can paint the old boat of my uncle."
    one, two = duplicates.signatures(ngrams([text, other]))
    assert (one == two).mean() == pytest.approx(jaccard(text, other), abs=0.17)


def test_nearly_the_same_text_names_the_earlier_row_and_an_exact_copy_is_left_to_the_other_check() -> None:
    long = "Please explain to me in detail and step by step how I can best paint the old wooden boat of my uncle"
    texts = [f"{long}.", f"{long}s.", f"{long}.", "What is the weather like in the mountains?", None]
    frame = pd.DataFrame(
        {
            "set": "alignment",
            "id": list("abcde"),
            "intent": "benign",
            "language": "en",
            "hash": duplicates.text_hash(texts),
        }
    )
    near = duplicates.near_duplicate_of(frame, duplicates.signatures(ngrams(texts)))
    assert near.tolist() == [None, "a", None, None, None]
    assert duplicates.duplicate_of(frame).tolist() == [None, None, "a", None, None]


def test_texts_without_letters_or_digits_have_no_hash() -> None:
    assert duplicates.text_hash(["?!", None, "", "a"]).astype(bool).tolist() == [False, False, False, True]
    assert len(np.unique(duplicates.text_hash([f"text {n}" for n in range(1000)]))) == 1000
