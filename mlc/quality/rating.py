"""Ratings of a set's translations, and of wrong pairs made of them, by the errors that an endpoint marks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
import regex

from mlc.asking import Asking, Question
from mlc.cache import AnswerCache
from mlc.endpoint import Endpoint
from mlc.errors import MlcError
from mlc.files import sha256_json
from mlc.progress import track
from mlc.quality.error_spans import Marked, Pair, Rating, question, rating, version
from mlc.quality.ngram_model import ngrams
from mlc.quality.text_checks import normalise
from mlc.settings import ErrorSpans as Settings
from mlc.spending import Price, Spending

Floats = npt.NDArray[np.float32]

_NOT = regex.compile(r"\b(to|can|could|should|would|will|must|may|do|does|did|is|are|was|were)\b(?!\s+not\b)", regex.I)


class Rater:
    """Rates pairs, several at a time, what was rated before from the cache.

    Raises:
        MlcError: the key is missing; when rating, the endpoint cannot be used or the spending limit is reached. What
            was answered until then is in the cache.
    """

    def __init__(self, settings: Settings, cache: Path) -> None:
        address = httpx.URL(settings.base_url)
        self.version = f"{settings.model}@{address.netloc.decode()}{address.path} {version()}"
        self._settings, self._cache = settings, cache
        price = Price(settings.price_in, settings.price_out)
        self.spending = Spending(price, settings.spending_limit, "validate.error_spans.spending_limit")

    def rate(self, pairs: Sequence[Pair]) -> dict[Pair, Rating]:
        """The rating of each pair; each is asked about once."""
        keys = {pair: sha256_json([*pair, self.version]) for pair in pairs}
        about = ("source_text", "text", "source", "language", "rater")
        with AnswerCache(self._cache, "error_span", about) as cache:
            known = cache.get(keys.values())
            ratings = {pair: rating(json.loads(known[key])) for pair, key in keys.items() if key in known}
            todo = [pair for pair in keys if pair not in ratings]
            if not todo:
                return ratings
            settings = self._settings
            endpoint = Endpoint(
                settings.base_url,
                settings.model,
                settings.key_variable,
                concurrency=settings.concurrency,
                timeout=settings.timeout,
                attempts=settings.attempts,
                meter=self.spending,
            )
            try:
                for answer in track(Asking(endpoint, self._question).answers(todo), "marking errors", len(todo)):
                    if answer.value is None:
                        ratings[answer.item] = Rating(np.nan, answer.failure or "no answer")
                        continue
                    errors = [error.model_dump() for error in answer.value]
                    cache.put(keys[answer.item], json.dumps(errors), (*answer.item, self.version))
                    ratings[answer.item] = rating(errors)
            except MlcError as error:
                kept = "what was answered is kept: run `mlc validate` again to go on from there"
                raise type(error)(f"validate.error_spans: {error}. {kept}") from None
        return ratings

    def _question(self, pair: Pair, unfit: int) -> Question[tuple[Marked, ...]]:
        return question(pair, self._settings.model, unfit)


def own_pairs(texts: Mapping[str, Sequence[str | None]], source: str) -> dict[str, list[Pair | None]]:
    """Language -> the pairs of its texts with the row's source text; null where either is missing or has no letters."""
    sources = texts.get(source, ())
    return {
        tag: [
            Pair(s, t, source, tag) if s and t and normalise(s) and normalise(t) else None
            for s, t in zip(sources, column, strict=True)
        ]
        for tag, column in texts.items()
        if tag != source and sources
    }


def wrong_pairs(texts: Mapping[str, Sequence[str | None]], source: str, count: int) -> dict[str, list[Pair]]:
    """Language -> ``count`` pairs that are wrong for sure, of a sample of the set.

    By turns a text beside the source text most like its own (a request about something else), and beside its own source
    text with a negation put in, where that can be done: in English.
    """
    rows = [n for n, text in enumerate(texts.get(source, ())) if text and normalise(text)]
    sources = [str(texts[source][n]) for n in rows]
    if len(rows) < 2:
        return {}
    nearest = _nearest(sources)
    rng = random.Random(0)
    result = {}
    for tag, column in texts.items():
        if tag == source:
            continue
        candidates = [place for place, n in enumerate(rows) if column[n] and normalise(str(column[n]))]
        rng.shuffle(candidates)
        pairs: list[Pair] = []
        for turn, place in enumerate(candidates):
            negated = _NOT.sub(r"\1 not", sources[place], count=1) if source.split("-")[0] == "en" and turn % 2 else ""
            other = negated if negated and negated != sources[place] else sources[nearest[place]]
            if normalise(other) != normalise(sources[place]):
                pairs.append(Pair(other, str(column[rows[place]]), source, tag))
            if len(pairs) == count:
                break
        result[tag] = pairs
    return result


def _nearest(sources: Sequence[str]) -> list[int]:
    """For each text the one that shares most of its n-grams, another text."""
    counts = ngrams(sources)
    counts.data = np.ones_like(counts.data)
    sizes = np.sqrt(np.maximum(counts.getnnz(axis=1), 1))
    alike = (counts @ counts.T).toarray() / sizes / sizes[:, None]
    plain = np.array([normalise(text) for text in sources])
    alike[plain[:, None] == plain] = -1
    return [int(best) for best in alike.argmax(axis=1)]


class Columns(NamedTuple):
    """Of one language's texts: the scores, NaN where there is none; the errors, and why a text has no rating."""

    error_score: Floats
    errors: list[str | None]
    unrated: list[str | None]


def columns(rater: Rater, texts: Mapping[str, Sequence[str | None]], source: str) -> Iterator[tuple[str, Columns]]:
    """Per language other than the source, the ratings of its texts beside their source texts.

    ``error_score`` fails on: what the model behind the endpoint does not know, in languages that it hardly reads.
    """
    pairs = own_pairs(texts, source)
    ratings = rater.rate([pair for column in pairs.values() for pair in column if pair])
    for tag, column in pairs.items():
        scores = np.full(len(column), np.nan, np.float32)
        errors: list[str | None] = []
        unrated: list[str | None] = []
        for n, pair in enumerate(column):
            rating = ratings[pair] if pair else None
            scores[n] = rating.score if rating else np.nan
            fit = rating is not None and not np.isnan(rating.score)
            errors.append(rating.said if rating and fit else None)
            unrated.append(None if rating is None else "" if fit else rating.said)
        yield tag, Columns(scores, errors, unrated)


def wrong_scores(rater: Rater, texts: Mapping[str, Sequence[str | None]], source: str, count: int) -> dict[str, Floats]:
    """Language -> the scores of wrong pairs that got an answer."""
    pairs = wrong_pairs(texts, source, count)
    ratings = rater.rate([pair for column in pairs.values() for pair in column])
    scores = {tag: np.array([ratings[pair].score for pair in column], np.float32) for tag, column in pairs.items()}
    return {tag: values[~np.isnan(values)] for tag, values in scores.items()}
