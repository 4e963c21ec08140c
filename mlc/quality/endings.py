"""Was a text cut off? By how texts of its language end, and by how long its row's other texts let it be.

Both are weighed by cutting the set's own texts off, so nobody has to know what a language's ends are like.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from mlc.quality.evidence import Weighing, share_below, weigh

Floats = npt.NDArray[np.float32]

FEWEST = 20
"""Texts of a language; in fewer it does not show how they end."""
_LONGEST = 4  # characters looked at
_PRIOR = 2.0  # occurrences that say what fewer characters say
_MOST = 2000  # characters of a text that are looked at
_KEPT = (0.1, 0.7)  # of a text that is cut to learn from
_SHORTEST = 2  # characters that are left of it
_ENDS = regex.compile(r"[\p{Po}\p{Pe}\p{Pf}\"']\s*\Z")


def ended(text: str) -> bool:
    """Whether the text ends with punctuation."""
    return _ENDS.search(text) is not None


@dataclass(frozen=True)
class Endings:
    """How often texts end after some characters, and how often these occur; by whether the source text has an end."""

    ends: dict[bool, Counter[str]]
    everywhere: dict[bool, Counter[str]]

    def likelihood(self, text: str, source_ended: bool, own: str | None) -> float:
        """Logarithm of the share of places after the text's last characters that are an end.

        Args:
            own: the row's text, if it is among those learned from: what it taught is then taken out.
        """
        ends, everywhere = self.ends[source_ended], self.everywhere[source_ended]
        text, own = text.rstrip()[-_MOST:], (own or "").rstrip()[-_MOST:]
        share = (ends[""] - bool(own) + 1) / (everywhere[""] - len(own) + 2)
        for length in range(1, _LONGEST + 1):
            last = text[-length:]
            total = max(everywhere[last] - own.count(last), 0)
            end = min(max(ends[last] - own.endswith(last), 0), total) if own else ends[last]
            share = (end + _PRIOR * share) / (total + _PRIOR)
        return math.log(share)


def _endings(texts: Sequence[str], sources: Sequence[str]) -> Endings:
    ends = {True: Counter[str](), False: Counter[str]()}
    everywhere = {True: Counter[str](), False: Counter[str]()}
    for text, source in zip(texts, sources, strict=True):
        kind, text = ended(source), text.rstrip()[-_MOST:]
        ends[kind][""] += 1
        everywhere[kind][""] += len(text)
        for length in range(1, _LONGEST + 1):
            ends[kind][text[-length:]] += 1
            everywhere[kind].update(text[at : at + length] for at in range(len(text) - length + 1))
    # What occurs once tells nothing, and is most of it.
    kept = {
        kind: Counter({last: n for last, n in counts.items() if n > 1 or not last})
        for kind, counts in everywhere.items()
    }
    return Endings(ends, kept)


@dataclass(frozen=True)
class Cuts:
    """What one language's texts look like when they are cut off."""

    endings: Endings
    weighing: Weighing
    """Of the signs: length, ending."""
    cut: Floats
    """How whole the texts look that were cut off to learn from."""
    learned_from: Collection[str]
    """Ids of rows."""

    def wholeness(
        self,
        ids: Sequence[str],
        texts: Sequence[str | None],
        sources: Sequence[str | None],
        surplus: npt.NDArray[np.float64],
    ) -> Floats:
        """The share of texts cut off to learn from that look less whole than each text; NaN where that is unknown.

        Near 1 for a whole text, uniform from 0 to 1 for one that was cut off. Fails on: a cut at the end of a sentence
        that takes little, and texts that rightly end in many ways and vary a lot in length.

        Args:
            surplus: log length above what is expected, in deviations.
        """
        result = np.full(len(texts), np.nan, np.float32)
        signs, known = [], []
        for n, (row, text, source) in enumerate(zip(ids, texts, sources, strict=True)):
            if text and source and not np.isnan(surplus[n]):
                own = text if row in self.learned_from else None
                signs.append((surplus[n], self.endings.likelihood(text, ended(source), own)))
                known.append(n)
        if known:
            result[known] = share_below(self.weighing(np.array(signs, np.float32)), self.cut)
        return result


def learn(
    ids: Sequence[str],
    texts: Sequence[str | None],
    sources: Sequence[str | None],
    surplus: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
) -> Cuts | None:
    """Learns from a sample of one language's texts and their source texts; None from fewer than ``FEWEST``.

    Args:
        surplus: log length above what is expected, in deviations of ``spread``, of shape (rows,) as this.
    """
    rows = [
        (row, text.strip(), source, float(over), float(usual))
        for row, text, source, over, usual in zip(ids, texts, sources, surplus, spread, strict=True)
        if text and source and not np.isnan(over) and len(text.strip()) > _SHORTEST
    ]
    if len(rows) < FEWEST:
        return None
    endings = _endings([text for _, text, *_ in rows], [source for _, _, source, *_ in rows])
    rng = random.Random(0)
    whole, cut = [], []
    for _, text, source, over, usual in rows:
        rest = text[: max(_SHORTEST, int(len(text) * rng.uniform(*_KEPT)))].rstrip()
        kind = ended(source)
        whole.append((over, endings.likelihood(text, kind, text)))
        cut.append((over + math.log(len(rest) / len(text)) / usual, endings.likelihood(rest, kind, text)))
    good, wrong = np.array(whole, np.float32), np.array(cut, np.float32)
    if (weighing := weigh(good, wrong, curved=True)) is None:
        return None
    return Cuts(endings, weighing, np.sort(weighing(wrong)), frozenset(row for row, *_ in rows))
