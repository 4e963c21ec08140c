"""All quality columns of prompt sets of any size: read in chunks, measured by every core, kept without their texts."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from mlc.progress import track
from mlc.prompts.schema import PromptRow, iter_prompts
from mlc.quality import replies
from mlc.quality.checks import learn_from, long_frame, set_columns, text_columns
from mlc.quality.decisions import Key
from mlc.quality.encoder import Encoder
from mlc.quality.lessons import Lessons
from mlc.quality.ngram_model import SAMPLE
from mlc.quality.rating import Rater, wrong_scores
from mlc.settings import Languages, Validate

CHUNK = 1000  # rows, about; what is compared with others is compared with those of its chunk
_IN_PROCESS = 4  # chunks; for fewer, other processes take longer to start than they save
_CATEGORIES = ("set", "intent", "language", "identified", "reads_like")


class Columns(NamedTuple):
    """All quality columns."""

    variants: pd.DataFrame
    """One line per row and language, in the order of sets, rows and languages."""
    replies: pd.DataFrame
    """One line per reply, in the order of sets and rows."""


class Measured(NamedTuple):
    """What one chunk shows by itself."""

    variants: pd.DataFrame
    signatures: npt.NDArray[np.uint16]
    replies: pd.DataFrame


class PromptSet(NamedTuple):
    """A set's file after one reading of it."""

    path: Path
    rows: int
    languages: Counter[str]
    """Language -> rows that have it."""
    sample: list[PromptRow]
    """Rows drawn from all alike, for learning from."""


def survey(path: Path, seen: Callable[[PromptRow], None] | None = None) -> PromptSet:
    """Reads a set once, so that every mistake in it is found before anything is measured; calls ``seen`` on each row.

    Raises:
        MlcError: as ``iter_prompts``.
    """
    rng, rows, languages = random.Random(0), 0, Counter[str]()
    sample: list[PromptRow] = []
    for row in track(iter_prompts(path), f"reading {path.name}"):
        if seen is not None:
            seen(row)
        languages.update(row.prompts.keys())
        rows += 1
        if len(sample) < SAMPLE:
            sample.append(row)
        elif (place := rng.randrange(rows)) < SAMPLE:
            sample[place] = row
    return PromptSet(path, rows, languages, sample)


def chunk_sizes(rows: int) -> list[int]:
    """Nearly equal sizes, so that the last chunk is large enough to compare its rows."""
    number = max(1, round(rows / CHUNK))
    return [rows // number + (n < rows % number) for n in range(number)]


def chunks(prompts: PromptSet) -> Iterator[list[PromptRow]]:
    """The set's rows, read again, about a thousand at a time."""
    rows = iter_prompts(prompts.path)
    for size in chunk_sizes(prompts.rows):
        yield list(islice(rows, size))


def compute_columns(
    sets: Mapping[str, PromptSet],
    languages: Languages,
    validate: Validate,
    keep: Collection[Key] = (),
    cache: Path = Path(".cache"),
) -> Columns:
    """The quality columns of prompts and replies.

    Both frames have the columns text and source_text, filled for the texts of ``keep`` alone. What an endpoint answers
    is kept in the folder ``cache``.
    """
    parts: list[Measured] = []
    encoder = Encoder(validate.encoder, validate.encoder_revision) if validate.encoder else None
    spans = validate.error_spans
    rater = Rater(spans, cache / "error-spans" / "answers.sqlite") if spans else None
    wrong: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
    most = {tag: validate.of(tag).maximum_characters for tag in languages.all}
    for name, prompts in sets.items():
        lessons = learn_from(long_frame({name: prompts.sample}, languages.all, languages.source), languages.source)
        if rater and spans:
            texts = {tag: [row.prompts.get(tag) for row in prompts.sample] for tag in languages.all}
            scores = wrong_scores(rater, texts, languages.source, spans.wrong_pairs)
            wrong |= {(name, tag): values for tag, values in scores.items()}
        job = _Job(name, languages, lessons, most, frozenset(key for key in keep if key[0] == name))
        total = len(chunk_sizes(prompts.rows))
        results = _in_process(job, chunks(prompts), encoder, rater)
        if encoder is None and rater is None and total > _IN_PROCESS:
            results = _in_processes(job, chunks(prompts))
        parts += track(results, f"measuring {name}", total)
    frame = pd.concat([part.variants for part in parts], ignore_index=True)
    for column in _CATEGORIES:
        frame[column] = frame[column].astype("category")
    marks = np.concatenate([part.signatures for part in parts])
    return Columns(
        set_columns(frame, marks, list(sets), validate.false_alarms, wrong),
        replies.set_columns([part.replies for part in parts]),
    )


class _Job(NamedTuple):
    """What is the same for all chunks of a set."""

    name: str
    languages: Languages
    lessons: Lessons
    maximum_characters: Mapping[str, int]
    keep: frozenset[Key]

    def __call__(
        self, rows: Sequence[PromptRow], encoder: Encoder | None = None, rater: Rater | None = None
    ) -> Measured:
        source = self.languages.source
        lines = long_frame({self.name: rows}, self.languages.all, source)
        frame, marks = text_columns(lines, source, self.lessons, self.maximum_characters, encoder, rater)
        keys = list(zip(lines["set"], lines["id"], lines["language"], strict=True))
        for name in ("text", "source_text"):
            kept = [text if key in self.keep else None for key, text in zip(keys, lines[name], strict=True)]
            frame[name] = pd.Series(kept, frame.index, dtype=object)
        return Measured(frame, marks, replies.reply_columns(self.name, rows, self.languages.all, source, self.keep))


def _in_process(
    job: _Job, rows: Iterable[list[PromptRow]], encoder: Encoder | None, rater: Rater | None
) -> Iterator[Measured]:
    for chunk in rows:
        yield job(chunk, encoder, rater)


_job: _Job


def _start(job: _Job) -> None:
    global _job
    _job = job
    threadpool_limits(1)  # one process per core is enough


def _run(rows: list[PromptRow]) -> Measured:
    return _job(rows)


def _in_processes(job: _Job, rows: Iterable[list[PromptRow]]) -> Iterator[Measured]:
    """The chunks' results in order, with no more chunks in memory than there are processes, twice."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # forking a process that has threads may hang
    with ProcessPoolExecutor(workers, context, _start, (job,)) as pool:
        waiting: deque[Future[Measured]] = deque()
        try:
            for chunk in rows:
                waiting.append(pool.submit(_run, chunk))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
