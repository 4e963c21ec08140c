"""A text's length is judged by all other texts of its row, and a faulty one among these moves it little."""

from __future__ import annotations

import numpy as np

from mlc.quality import lengths

RNG = np.random.default_rng(0)
FACTORS = {"en": 1.0, "es": 1.2, "zh": 0.35, "sw": 1.1}


def texts(rows: int, noise: float = 0.08) -> dict[str, list[str | None]]:
    meaning = RNG.normal(4.2, 0.4, rows)
    wording = {tag: meaning + np.log(factor) + RNG.normal(0, noise, rows) for tag, factor in FACTORS.items()}
    return {tag: ["x" * max(2, round(np.exp(value))) for value in values] for tag, values in wording.items()}


def deviations(given: dict[str, list[str | None]]) -> np.ndarray:
    learned = lengths.learn(given, "en")
    logs = lengths.log_lengths(given)
    return (logs - learned.expected(logs)) / learned.spreads(logs)


def test_cut_texts_are_far_off_and_the_others_are_not() -> None:
    given = texts(300)
    cut = np.arange(0, 300, 10)
    for n in cut:
        text = given["zh"][n]
        assert text
        given["zh"][n] = text[: len(text) * 2 // 5]
    found = deviations(given)
    place = list(given).index("zh")
    assert (found[cut, place] < -4).mean() > 0.9
    assert (np.abs(np.delete(found[:, place], cut)) > 4).mean() < 0.01
    others = np.delete(found, place, axis=1)
    assert (np.abs(others[cut]) > 4).mean() < 0.02  # the cut text's row is not blamed for it


def test_several_languages_tell_more_than_the_source_alone() -> None:
    given = texts(300, noise=0.2)
    logs = lengths.log_lengths(given)
    alone = {tag: given[tag] for tag in ("en", "zh")}
    among_all = logs[:, 2] - lengths.learn(given, "en").expected(logs)[:, 2]
    beside_source = logs[:, 2] - lengths.learn(alone, "en").expected(lengths.log_lengths(alone))[:, 1]
    assert among_all.std() < 0.9 * beside_source.std()


def test_missing_texts_are_left_out_and_a_lone_text_is_not_judged() -> None:
    given = texts(60)
    given["es"][3] = None
    for tag in ("es", "zh", "sw"):
        given[tag][5] = None
    found = deviations(given)
    assert np.isnan(found[3, 1]) and not np.isnan(found[3, [0, 2, 3]]).any()
    assert np.isnan(found[5]).all()


def test_a_text_fits_rows_of_its_own_length_best() -> None:
    logs = np.array([3.0, 5.0, np.nan])
    fit = lengths.fits(logs, np.array([3.0, 5.0, 4.0]), np.full(3, 0.2))
    assert fit[0, 0] > fit[0, 2] > fit[0, 1] and fit[1, 1] > fit[1, 0]
    assert (fit[2] == 0).all()
