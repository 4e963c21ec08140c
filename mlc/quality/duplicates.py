"""Texts that are there twice: in a set, or in two sets. All on hashes, so that no text has to stay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlc.quality.text_checks import normalise

_HASHES, _BANDS = 64, 8
_NEARLY = 0.9  # of the n-grams two texts have, in common: nearly the same text
_rng = np.random.default_rng(0)
_FACTORS = (_rng.integers(0, 2**63, _HASHES, dtype=np.uint64) * 2 + 1)[:, None]
_SHIFTS = _rng.integers(0, 2**63, _HASHES, dtype=np.uint64)[:, None]


def text_hash(texts: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    """64-bit hashes of the normalised texts; 0 for nulls and for texts of which nothing remains."""
    normalised = [normalise(text) if text else "" for text in texts]
    digests = [blake2b(text.encode(), digest_size=8).digest() if text else bytes(8) for text in normalised]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def signatures(counts: Any) -> npt.NDArray[np.uint16]:
    """MinHash signatures of n-gram sets, of shape (texts, 64): two agree in the share of n-grams they have in common.

    Args:
        counts: sparse matrix of shape (texts, features), as ``mlc.quality.ngram_model.ngrams`` makes it.
    """
    result = np.zeros((counts.shape[0], _HASHES), np.uint16)
    nonempty = np.flatnonzero(np.diff(counts.indptr))
    if len(nonempty):
        hashed = (counts.indices.astype(np.uint64)[None] * _FACTORS + _SHIFTS) >> np.uint64(40)
        result[nonempty] = np.minimum.reduceat(hashed, counts.indptr[nonempty], axis=1).T.astype(np.uint16)
    return result


def duplicate_of(frame: pd.DataFrame) -> pd.Series:
    """Id of an earlier row of the set with the same text in the language, null where there is none.

    Where the rows disagree on the intent, one of them is mislabelled or mistranslated and nobody can say which, so all
    of them have another's id. Fails on: paraphrases, and a first row that is itself in quarantine, which takes its
    repetition along.
    """
    duplicates = pd.Series(np.full(len(frame), None), frame.index, dtype=object)
    for _, lines in frame[frame["hash"] != 0].groupby(["set", "language"], sort=False, observed=True):
        repeated = lines[lines["hash"].duplicated(keep=False)]
        same = repeated.groupby("hash", sort=False)
        first, last = same["id"].transform("first"), same["id"].transform("last")
        contradictory = same["intent"].transform("nunique") > 1
        other = first.where(first != repeated["id"], last.where(contradictory, None))
        duplicates[other.index[other.notna()]] = other.dropna()
    return duplicates


def leaked_from(frame: pd.DataFrame, order: Sequence[str]) -> pd.Series:
    """``set/id`` of a row with the same text in the same language in a later set of ``order``, null without one.

    ``order`` goes from what is trained on to what is judged by. Fails on: paraphrases, and two different requests that
    one language happens to word alike.
    """
    leaks = pd.Series(np.full(len(frame), None), frame.index, dtype=object)
    for _, lines in frame[frame["hash"] != 0].groupby("language", sort=False, observed=True):
        for number, name in enumerate(order):
            later = lines[lines["set"].isin(order[number + 1 :])].drop_duplicates("hash")
            own = lines[lines["set"] == name]
            own = own[own["hash"].isin(later["hash"])]
            where = later["set"].astype(str).str.cat(later["id"].astype(str), sep="/")
            where.index = pd.Index(later["hash"])
            leaks[own.index] = own["hash"].map(where)
    return leaks


def near_duplicate_of(frame: pd.DataFrame, marks: npt.NDArray[np.uint16]) -> pd.Series:
    """Id of an earlier row of the set whose text in the language is nearly the same; null where there is none.

    Counted, and no reason for quarantine: requests made from one template are rightly alike in every language, and a
    translation that stands for another request shows in ``misplaced``. Fails on: short texts, of which one word is more
    than a tenth, and rows that resemble another one than the first of their kind.

    Args:
        frame: with the columns set, id, language, hash.
        marks: MinHash signatures of its lines.
    """
    duplicates = np.full(len(frame), None)
    hashes, ids = frame["hash"].to_numpy(), frame["id"].to_numpy(dtype=object)
    bands = np.ascontiguousarray(marks).view(np.dtype((np.void, marks.itemsize * _HASHES // _BANDS)))
    for lines in frame.groupby(["set", "language"], sort=False, observed=True).indices.values():
        nonempty = lines[hashes[lines] != 0]
        for band in range(_BANDS):
            _, first, group = np.unique(bands[nonempty, band], return_index=True, return_inverse=True)
            earlier, own = nonempty[first[group]], nonempty
            other = (earlier != own) & (hashes[earlier] != hashes[own])
            earlier, own = earlier[other], own[other]
            alike = (marks[earlier] == marks[own]).mean(axis=1) >= _NEARLY
            duplicates[own[alike]] = ids[earlier[alike]]
    return pd.Series(duplicates, frame.index, dtype=object)
