"""Evaluation prompts that prove nothing: the model was trained or chosen on them, or they are copies of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import regex
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import HashingVectorizer

from mlc.gates.rules import Measured, RuleResult, result
from mlc.judges.normalize import folded
from mlc.languages.tags import language_name
from mlc.prompts.schema import Intent, PromptRow
from mlc.quality.text_checks import normalise
from mlc.text import percent

_CHUNK = 256  # evaluation prompts compared at once
_NAMED = 5  # of the leaked prompts, in the reason
INTENTS: tuple[Intent, ...] = get_args(Intent)
# From here on two evaluation prompts are copies, or from near_duplicate on, if that is higher. Of the embedded set's
# requests, which share templates, up to 5% are this alike in two or three languages, and none in all.
ALIKE = 0.85
_SHORT = 12  # trigrams; in a shorter text one letter is a tenth, and only the same text is a copy, or added words
MOST_COPIES = 0.1  # of an intent's prompts; so many fewer move a bound by half a point at most
# Sets of character trigrams: there are words in every script, and one object for another in a short request shows.
_TRIGRAMS = HashingVectorizer(
    analyzer="char", ngram_range=(3, 3), n_features=2**20, binary=True, norm=None, alternate_sign=False, lowercase=False
)
# A word, or a character of a script that puts no spaces between words.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+")
_WORDS = HashingVectorizer(analyzer=_WORD.findall, n_features=2**20, binary=True, norm=None, alternate_sign=False)


def _plain(text: str) -> str:
    """Without case, punctuation, spacing, accents, invisible characters and look-alike letters."""
    return normalise(folded(text))


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

    Texts are compared without case, punctuation, spacing, accents and what cannot be seen: the same text in any
    language, nearly the same in its own.
    """
    own = [(row.id, tag, _plain(text)) for row in training for tag, text in row.prompts.items()]
    same = {text: row_id for row_id, _, text in reversed(own)}
    leaks = []
    for tag, lines in samples.groupby("language", sort=True):
        texts = [_plain(text) for text in lines["prompt"]]
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


def _shares(sets: Any, sizes: Any, start: int) -> tuple[Any, Any]:
    """Of a chunk of sets, with each set: the share of members in common (Jaccard), and whether one holds the other."""
    common = (sets[start : start + _CHUNK] @ sets.T).toarray()
    own = sizes[start : start + _CHUNK, None]
    union, smaller = own + sizes[None] - common, np.minimum(own, sizes[None])
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0), (common >= smaller) & (smaller > 0)


def _extends(one: Sequence[str], two: Sequence[str]) -> bool:
    """Whether two texts are the same, or one is the other with words added: at most as many as its three or more."""
    short, long = sorted((one, two), key=len)
    if short == long or len(short) < 3 or 2 * len(short) < len(long):
        return short == long
    words = iter(long)
    return all(word in words for word in short)


def _copies(variants: Sequence[Sequence[str]], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of prompts that are nearly the same; ``variants`` are each prompt's plain texts, by language.

    Nearly the same: the share of trigrams in common, averaged over the languages in which both are long enough, reaches
    the threshold; or in some language one is the other with words added, or the same.
    """
    columns = list(zip(*variants, strict=True))
    trigrams = [_TRIGRAMS.transform(texts) for texts in columns]
    words = [[_WORD.findall(text) for text in texts] for texts in columns]
    bags = [_WORDS.transform(texts) for texts in columns]
    sizes = [[np.asarray(m.sum(axis=1)).ravel() for m in of] for of in (trigrams, bags)]
    long = [of >= _SHORT for of in sizes[0]]
    for start in range(0, len(variants), _CHUNK):
        shared: Any = 0.0
        both: Any = 0
        held = np.zeros((min(_CHUNK, len(variants) - start), len(variants)), dtype=bool)
        for at in range(len(columns)):
            share, _ = _shares(trigrams[at], sizes[0][at], start)
            compared = long[at][start : start + _CHUNK, None] & long[at][None]
            shared, both = shared + share * compared, both + compared
            _, holds = _shares(bags[at], sizes[1][at], start)
            for i, j in np.argwhere(holds & ~held):
                held[i, j] = start + i < j and _extends(words[at][start + i], words[at][j])
        near = held | ((both > 0) & (shared >= threshold * both))
        yield from ((start + int(i), int(j)) for i, j in np.argwhere(near) if start + i < j)


class Distinct(NamedTuple):
    """How many prompts of an intent there are, how many of them differ, in all and in the language with the fewest, and
    an example of two that do not."""

    prompts: int
    distinct: int
    fewest: int
    language: str
    example: tuple[str, str] | None

    @property
    def copies(self) -> float:
        """The share of prompts that are copies of others."""
        return 1 - self.distinct / self.prompts if self.prompts else 0.0


def distinct(prompts: Mapping[str, Mapping[str, str]], languages: Sequence[str], threshold: float) -> Distinct:
    """What is left of prompts, id -> language -> text, when those that are nearly the same count once."""
    ids = [prompt_id for prompt_id, texts in prompts.items() if any(tag in texts for tag in languages)]
    variants = [[_plain(prompts[prompt_id].get(tag, "")) for tag in languages] for prompt_id in ids]
    pairs = list(_copies(variants, max(threshold, ALIKE))) if ids else []
    rows, columns = ([pair[side] for pair in pairs] for side in (0, 1))
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(ids), len(ids)))
    count, group = connected_components(graph, directed=False) if ids else (0, [])
    in_language = {
        tag: len({group[at] for at, prompt_id in enumerate(ids) if tag in prompts[prompt_id]}) for tag in languages
    }
    fewest = min(languages, key=lambda tag: in_language[tag])
    example = (ids[pairs[0][0]], ids[pairs[0][1]]) if pairs else None
    return Distinct(len(ids), int(count), in_language[fewest], fewest, example)


def distinct_of_rows(rows: Sequence[PromptRow], languages: Sequence[str], threshold: float) -> dict[Intent, Distinct]:
    """``distinct`` of the rows of either intent."""
    return {
        intent: distinct({row.id: row.prompts for row in rows if row.intent == intent}, languages, threshold)
        for intent in INTENTS
    }


def distinct_of_samples(samples: pd.DataFrame, languages: Sequence[str], threshold: float) -> dict[Intent, Distinct]:
    """``distinct`` of the prompts of either intent that sample lines answer."""
    found: dict[Intent, Distinct] = {}
    for intent in INTENTS:
        prompts: dict[str, dict[str, str]] = {}
        lines = samples[samples["intent"] == intent]
        for prompt_id, tag, text in zip(lines["prompt_id"], lines["language"], lines["prompt"], strict=True):
            prompts.setdefault(prompt_id, {})[tag] = text
        found[intent] = distinct(prompts, languages, threshold)
    return found


def near_duplicates(found: Mapping[Intent, Distinct], threshold: float, minimum: int) -> RuleResult:
    """The share of evaluation prompts that are copies of others, of the intent that has more of them.

    Fails where that is more than ``MOST_COPIES``, and where fewer than ``minimum`` different ones are left in a
    language.
    """
    intent, worst = max(found.items(), key=lambda item: item[1].copies)
    copies, reason = worst.prompts - worst.distinct, None
    if worst.example:
        one, two = worst.example
        reason = (
            f"{copies} of {worst.prompts} {intent} prompts are copies of others, such as {two!r} of {one!r}: take them"
            f" out (or raise gate.near_duplicate above {max(threshold, ALIKE):g}, if they are different requests)"
        )
    method = f"character trigrams, {max(threshold, ALIKE):g} in common, or words added"
    measured = Measured(worst.prompts, worst.copies, worst.copies, reason, hits=copies, method=method)
    for other, of in found.items():
        if of.fewest < min(minimum, of.prompts):
            few = f"only {of.fewest} different {other} prompts in {language_name(of.language)}, {minimum} needed"
            measured = Measured(of.prompts, problem=f"{few}; {reason}" if reason else few)
    return result("near_duplicates", None, measured, MOST_COPIES, "at most")
