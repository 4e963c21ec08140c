"""Filling in a prompt set: which texts are missing, translating them, and writing what came of it."""

from __future__ import annotations

import json
import signal
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import regex

from mlc.errors import MlcError
from mlc.files import write_jsonl
from mlc.languages.tags import check_language
from mlc.licences import UNKNOWN
from mlc.progress import track
from mlc.prompts.changing import changing
from mlc.prompts.schema import PromptRow, Provenance, read_prompts, write_prompts
from mlc.quality.preserved import lost
from mlc.text import visible
from mlc.translation import Request, Result, Stopped, TranslationError, Translator
from mlc.translation.cache import Cache

_SURROGATE = regex.compile(r"\p{Cs}")
GO_ON = "the same command goes on from there, and translates nothing twice"


class Interrupted(Stopped):
    """Stopped by a person or a scheduler."""

    exit_code = 130


class Job(NamedTuple):
    """What to fill in."""

    languages: tuple[str, ...]
    source: str
    back: bool = False
    limit: int | None = None
    names: tuple[str, ...] = ()
    keep_flagged: bool = False


class Want(NamedTuple):
    """A text that a row lacks: its variant in ``language``, or that variant's back-translation."""

    id: str
    language: str
    back: bool
    request: Request | None  # none where the text to translate is missing itself


class Failure(NamedTuple):
    want: Want
    reason: str
    translation: str | None = None


def job(
    languages: str, source: str, back: bool, limit: int | None, names: Sequence[str] | None, keep_flagged: bool
) -> Job:
    """A job as the command line gives it, its languages as comma-separated tags.

    Raises:
        MlcError: a tag is not valid, or the source language is among the languages.
    """
    tags = tuple(dict.fromkeys(tag.strip() for tag in languages.split(",") if tag.strip()))
    for tag in (*tags, source):
        try:
            check_language(tag)
        except ValueError as error:
            raise MlcError(f"--languages: {error}") from None
    if not tags or source in tags:
        raise MlcError(f"--languages {languages}: name one or more, and not the source language {source}")
    return Job(tags, source, back, limit, tuple(name for name in names or () if name), keep_flagged)


def wanted(rows: Iterable[PromptRow], job: Job, back: bool) -> Iterator[Want]:
    """The variants that are missing, or with ``back`` the back-translations of those there are."""
    for row in rows:
        for tag in job.languages:
            if back and row.prompts.get(tag, "").strip() and tag not in row.back_translations:
                yield Want(row.id, tag, True, Request(row.prompts[tag], tag, job.source))
            elif not back and tag not in row.prompts:
                text = row.prompts.get(job.source, "")
                yield Want(row.id, tag, False, Request(text, job.source, tag) if text.strip() else None)


def fault(request: Request, translation: str, names: Collection[str]) -> str | None:
    """Why ``translation`` cannot stand for the text; none if nothing is wrong to see."""
    if not translation.strip():
        return "empty"
    if translation.strip() == request.text.strip() and regex.search(r"\p{L}{2}", translation):
        return "the same as the source"
    missing = lost(request.text, translation, names)
    return f"lost: {', '.join(missing)}" if missing else None


def filled(rows: Sequence[PromptRow], job: Job, good: Mapping[Request, str], by: Provenance) -> list[PromptRow]:
    """The rows with the good translations in them; a text that is there already stays as it is."""
    texts = _texts(rows, job, good, back=False)
    rows = [
        row.model_copy(
            update={
                "prompts": row.prompts | texts[row.id],
                "provenance": row.provenance | dict.fromkeys(texts[row.id], by),
            }
        )
        for row in rows
    ]
    backs = _texts(rows, job, good, back=True) if job.back else {}
    return [row.model_copy(update={"back_translations": row.back_translations | backs.get(row.id, {})}) for row in rows]


def _texts(rows: Iterable[PromptRow], job: Job, good: Mapping[Request, str], back: bool) -> dict[str, dict[str, str]]:
    """Row id -> language -> what it lacked and now has."""
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    for want in wanted(rows, job, back):
        if want.request is not None and want.request in good:
            texts[want.id][want.language] = good[want.request]
    return texts


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM, a scheduler's way to stop a job, is taken like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """One run: what is known so far."""

    def __init__(self, translator: Translator, job: Job, cache: Cache) -> None:
        self.translator, self.job, self.cache = translator, job, cache
        self.good: dict[Request, str] = {}
        self.failures: list[Failure] = []
        self.counts: Counter[str] = Counter()
        self._left = job.limit

    def phase(self, rows: Sequence[PromptRow], back: bool) -> None:
        """Translates what is wanted, the cache's part first."""
        wants: dict[Request, list[Want]] = {}
        for want in wanted(rows, self.job, back):
            if want.request is None:
                self.failures.append(Failure(want, f"the row has no text in {self.job.source}"))
            else:
                wants.setdefault(want.request, []).append(want)
        self.translator.check({(request.source, request.target) for request in wants})
        known = self.cache.get(wants)
        for request, translation in known.items():
            self._take(Result(request, translation), wants[request], "from the cache", back)
        todo = [request for request in wants if request not in known]
        if self._left is not None:
            todo = todo[: self._left]
            self._left -= len(todo)
        if not todo:
            return
        progress = track(range(len(todo)), "translating back" if back else "translating", total=len(todo))
        with progress, closing(self.translator.translate(todo)) as results:  # type: ignore[type-var]
            for result in results:
                if result.translation is not None and _SURROGATE.search(result.translation):
                    result = Result(result.request, failure="not valid Unicode")  # no file could hold it
                if result.translation is not None:
                    self.cache.put(result.request, result.translation)
                self._take(result, wants[result.request], "translated", back)
                progress.update()

    def _take(self, result: Result, wants: Sequence[Want], how: str, back: bool) -> None:
        request, translation, reason = result
        if translation is not None:
            reason = fault(request, translation, self.job.names)
            # A back-translation is evidence: what it lost is what validation wants to see.
            if reason and reason.startswith("lost") and (back or self.job.keep_flagged):
                reason = None
        if reason is None and translation is not None:
            self.good[request] = translation.strip()
            self.counts[how] += len(wants)
        else:
            self.failures += [Failure(want, reason or "no answer", translation) for want in wants]


def run(path: Path, translator: Translator, job: Job, cache_path: Path, licence: str | None = None) -> None:
    """Translates what ``path`` lacks and writes it into the set; what failed goes to ``<set>.failures.jsonl``.

    Each text keeps the ``licence`` that is given, or else the translator's own.

    The set is written at the end, or when the run is stopped; it is read again before, so that rows that were edited
    meanwhile keep their edits.

    Raises:
        MlcError: the set cannot be read, or the translator does not know a language; nothing has been translated.
        TranslationError: some texts failed, or the run was stopped; what was translated is written.
    """
    rows = read_prompts(path)
    by = Provenance(translator=translator.name, version=translator.version, licence=licence or translator.licence)
    stopped: Stopped | None = None
    with Cache(cache_path, translator) as cache, _termination_interrupts():
        going = _Run(translator, job, cache)
        try:
            going.phase(rows, back=False)
            if job.back:
                going.phase(filled(rows, job, going.good, by), back=True)
        except Stopped as error:
            stopped = error
        except KeyboardInterrupt:
            stopped = Interrupted("interrupted")
    beside = path.with_name(f"{path.stem}.failures.jsonl")
    # Asking may have taken hours. Only what follows keeps others waiting: a short while, whatever was asked.
    with changing(path.parent):
        if going.good:
            write_prompts(path, filled(read_prompts(path), job, going.good, by))
        _write_failures(beside, going.failures, by, job.languages)
    _report(path, going, beside, by)
    if stopped:
        raise type(stopped)(f"{stopped}. What was translated is in {path}; {GO_ON}")
    if going.failures:
        raise TranslationError(f"{len(going.failures)} texts were not translated: {beside} says why")


def _write_failures(path: Path, failures: Sequence[Failure], by: Provenance, languages: Collection[str]) -> None:
    """Replaces what the file says about these languages; those of another run, which may run now, keep theirs."""
    lines: list[dict[str, Any]] = []
    with suppress(FileNotFoundError, ValueError), path.open(encoding="utf-8") as file:
        lines += [line for line in map(json.loads, file) if line.get("language") not in languages]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    lines += (
        {
            "id": failure.want.id,
            "language": failure.want.language,
            "back": failure.want.back,
            "reason": failure.reason,
            "translation": failure.translation,
            "translator": by.translator,
            "version": by.version,
            "when": when,
        }
        for failure in failures
    )
    if lines:
        write_jsonl(path, lines)
    else:
        path.unlink(missing_ok=True)


def _report(path: Path, going: _Run, beside: Path, by: Provenance) -> None:
    counts = going.counts
    print(f"{path}: {counts['translated']} translated, {counts['from the cache']} from the cache")
    if going.good:
        print(f"licence of {visible(by.translator)}: {by.licence or f'{UNKNOWN}; --licence names it'}")
    reasons = Counter(failure.reason.split(":")[0] for failure in going.failures)
    for reason, count in reasons.most_common():
        print(f"{count} failed ({reason})")
    if reasons:
        print(f"failures: {beside}")
