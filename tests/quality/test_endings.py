"""Cut texts are told by their ends and their lengths together, in languages with and without final punctuation."""

from __future__ import annotations

import numpy as np
import pytest

from mlc.quality import endings, lengths

from .conftest import world_rows

TAGS = ("en", "es", "sw", "zh", "bn")
ROWS = world_rows("alignment", 200, TAGS)
IDS = [row.id for row in ROWS]


def wholeness(given: dict[str, list[str | None]], tag: str) -> np.ndarray:
    learned = lengths.learn(given, "en")
    logs = lengths.log_lengths(given)
    spreads = learned.spreads(logs)
    surplus = (logs - learned.expected(logs)) / spreads
    place = list(given).index(tag)
    cuts = endings.learn(IDS, given[tag], given["en"], surplus[:, place], spreads[:, place])
    assert cuts is not None
    return cuts.wholeness(IDS, given[tag], given["en"], surplus[:, place])


@pytest.mark.parametrize("punctuation", [True, False])
@pytest.mark.parametrize("tag", ["es", "zh", "bn"])
def test_cut_texts_look_cut_and_whole_ones_whole(tag: str, punctuation: bool) -> None:
    def written(text: str) -> str:
        return text if punctuation else text.rstrip("?.!¿¡。？！।")

    given: dict[str, list[str | None]] = {t: [written(row.prompts[t]) for row in ROWS] for t in TAGS}
    cut = np.arange(0, 200, 10)
    for n in cut:
        text = given[tag][n]
        assert text
        given[tag][n] = text[: len(text) * 2 // 5]
    values = wholeness(given, tag)
    assert (values[cut] < 0.95).mean() >= 0.9
    assert np.delete(values, cut).mean() > 0.97


def test_a_text_does_not_vouch_for_its_own_end() -> None:
    given: dict[str, list[str | None]] = {t: [row.prompts[t] for row in ROWS] for t in TAGS}
    strange = "Quiero pintar un barco xyzzyqq"
    given["es"][7] = strange
    found = endings._endings([str(t) for t in given["es"]], [str(t) for t in given["en"]])
    ended = endings.ended(str(given["en"][7]))
    without = endings._endings(
        [str(t) for n, t in enumerate(given["es"]) if n != 7], [str(t) for n, t in enumerate(given["en"]) if n != 7]
    )
    assert found.likelihood(strange, ended, strange) == pytest.approx(without.likelihood(strange, ended, None), abs=0.1)


def test_missing_texts_and_few_texts_are_unchecked() -> None:
    given: dict[str, list[str | None]] = {t: [row.prompts[t] for row in ROWS] for t in TAGS}
    given["es"][4] = None
    assert np.isnan(wholeness(given, "es")).tolist() == [n == 4 for n in range(200)]
    few = np.zeros(endings.FEWEST - 1)
    texts = given["en"][: len(few)]
    assert endings.learn(IDS[: len(few)], texts, texts, few, few + 1) is None
