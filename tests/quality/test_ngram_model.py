from __future__ import annotations

import numpy as np
import pytest

from mlc.quality import evidence, ngram_model

from .conftest import world_rows

TAGS = ("en", "es", "sw", "zh")
ROWS = world_rows("alignment", 200, TAGS)
IDS = [row.id for row in ROWS]


def texts() -> dict[str, list[str | None]]:
    return {tag: [row.prompts[tag] for row in ROWS] for tag in TAGS}


def measured(given: dict[str, list[str | None]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Language margins, and associations by wording alone."""
    known = ngram_model.learn(IDS, given)
    assert known is not None
    counts = {tag: ngram_model.ngrams(column) for tag, column in given.items()}
    margins = ngram_model.language_margins(known, IDS, counts)
    fits = {}
    for tag, scores in ngram_model.fits(known, IDS, counts).items():
        there = np.array([text is not None for text in given[tag]])
        fits[tag] = evidence.against_wrong_pairs([evidence.standardised(scores, there)], there, evidence.FEWEST)
    return {tag: margin for tag, (margin, _) in margins.items()}, fits


def test_right_texts_read_like_their_language_and_fit_their_rows() -> None:
    margins, fits = measured(texts())
    for tag in TAGS:
        assert (margins[tag] > 0).all()
        assert evidence.limit(fits[tag], 0.005) > 0.9


def test_texts_of_another_language_read_like_it_although_they_are_learned_from() -> None:
    given = texts()
    wrong = list(range(0, 200, 10))
    for n in wrong:
        given["sw"][n] = given["es"][n]
    margins, _ = measured(given)
    assert (margins["sw"][wrong] < 0).all()
    assert (np.delete(margins["sw"], wrong) > 0).all()


def test_swapped_texts_are_found_and_their_neighbours_are_not() -> None:
    given = texts()
    # Far apart: the rows are in the order of their actions, and neighbours ask nearly the same.
    swapped = list(range(0, 200, 10))
    moved = [given["zh"][n] for n in swapped[10:] + swapped[:10]]
    for n, text in zip(swapped, moved, strict=True):
        given["zh"][n] = text
    _, fits = measured(given)
    limit = evidence.limit(fits["zh"], 0.005)
    assert limit >= 0.5
    assert (fits["zh"][swapped] < limit).mean() >= 0.9
    assert (np.delete(fits["zh"], swapped) < limit).mean() <= 0.02
    assert (fits["es"] >= limit).mean() > 0.97


def test_a_text_does_not_vouch_for_itself() -> None:
    given = texts()
    given["sw"][3] = "Wie kann ich morgen früh ein großes Schiff streichen, bitte?"
    whole, _ = measured(given)
    known = ngram_model.learn([*IDS[:3], *IDS[4:]], {tag: [*column[:3], *column[4:]] for tag, column in given.items()})
    assert known is not None
    apart = ngram_model.language_margins(
        known, [IDS[3]], {tag: ngram_model.ngrams([column[3]]) for tag, column in given.items()}
    )
    # The other languages' models hold row 3 in one case and not in the other; its own must not.
    assert whole["sw"][3] == pytest.approx(apart["sw"][0][0], abs=0.1)


def test_missing_texts_and_small_sets_are_unchecked() -> None:
    given = texts()
    given["sw"][5] = None
    margins, fits = measured(given)
    assert np.isnan(margins["sw"][5]) and np.isnan(fits["sw"][5])
    assert ngram_model.learn(IDS[:10], {tag: column[:10] for tag, column in given.items()}) is None
