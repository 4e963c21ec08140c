"""Evaluation prompts that the model was trained or chosen on, in any language: they prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer

from mlc.gates.rules import Measured, RuleResult, result
from mlc.prompts.schema import PromptRow
from mlc.quality.text_checks import normalise
from mlc.text import percent

_CHUNK = 256  # evaluation prompts compared at once
_NAMED = 5  # of the leaked prompts, in the reason
# Sets of character trigrams: there are words in every script, and one object for another in a short request shows.
_TRIGRAMS = HashingVectorizer(
    analyzer="char", ngram_range=(3, 3), n_features=2**20, binary=True, norm=None, alternate_sign=False, lowercase=False
)


def _nearest(texts: Sequence[str], others: Sequence[str]) -> tuple[Any, Any]:
    """Per text the largest share of trigrams it has in common with one of the others (Jaccard), and which that is."""
    one, two = _TRIGRAMS.transform(texts), _TRIGRAMS.transform(others)
    sizes, other_sizes = (np.asarray(m.sum(axis=1)).ravel() for m in (one, two))
    shares, nearest = np.zeros(len(texts)), np.zeros(len(texts), int)
    for start in range(0, len(texts), _CHUNK):
        common = (one[start : start + _CHUNK] @ two.T).toarray()
        union = sizes[start : start + _CHUNK, None] + other_sizes[None] - common
        jaccard = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        nearest[start : start + _CHUNK] = jaccard.argmax(axis=1)
        shares[start : start + _CHUNK] = jaccard.max(axis=1)
    return shares, nearest


def leaked(samples: pd.DataFrame, training: Sequence[PromptRow], threshold: float) -> list[tuple[str, str, str, float]]:
    """(evaluation id, language, training id, share in common) of every prompt that is nearly one of the training's.

    Texts are compared without case, punctuation and spacing: the same text in any language, nearly the same in its own.
    """
    own = [(row.id, tag, normalise(text)) for row in training for tag, text in row.prompts.items()]
    same = {text: row_id for row_id, _, text in reversed(own)}
    leaks = []
    for tag, lines in samples.groupby("language", sort=True):
        texts = [normalise(text) for text in lines["prompt"]]
        in_language = [(row_id, text) for row_id, other, text in own if other == tag]
        shares, nearest = (
            _nearest(texts, [text for _, text in in_language])
            if in_language
            else (np.zeros(len(texts)), np.zeros(len(texts), int))
        )
        for i, (prompt_id, text) in enumerate(zip(lines["prompt_id"], texts, strict=True)):
            if text and text in same:
                leaks.append((str(prompt_id), str(tag), same[text], 1.0))
            elif shares[i] >= threshold:
                leaks.append((str(prompt_id), str(tag), in_language[nearest[i]][0], float(shares[i])))
    return leaks


def check(
    samples: pd.DataFrame,
    others: Sequence[PromptRow],
    threshold: float,
    use: Literal["training", "selection"] = "training",
) -> RuleResult:
    """The share of evaluation prompts that are nearly one of the ``others``, in any language; none may be.

    The rule is ``leakage`` for the prompts that the model was trained on, ``selection_leakage`` for those that it was
    chosen on.
    """
    leaks = leaked(samples, others, threshold)
    n, ids = samples["prompt_id"].nunique(), {prompt_id for prompt_id, *_ in leaks}
    share = len(ids) / n
    first = {prompt_id: (tag, other, common) for prompt_id, tag, other, common in reversed(leaks)}
    named = "; ".join(f"{a!r} is {b!r} in {tag} ({percent(s)})" for a, (tag, b, s) in list(first.items())[:_NAMED])
    more = f", and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    reason = f"{len(ids)} of {n} evaluation prompts are nearly {use} prompts: {named}{more}" if leaks else None
    measured = Measured(n, share, share, reason, hits=len(ids), method=f"character trigrams, {threshold:g} in common")
    name = "leakage" if use == "training" else "selection_leakage"
    return result(name, None, measured, 0.0, "at most")
