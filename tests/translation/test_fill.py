"""Filling in: nothing is overwritten, made up or translated twice; what failed is written down."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import MlcError
from mlc.prompts.schema import Provenance, read_prompts, write_prompts
from mlc.translation import Request, Result, Stopped, TranslationError, fill
from mlc.translation.cache import Cache
from mlc.translation.fill import GO_ON, Interrupted, Job

from .conftest import failures, row, texts


class Shouting:
    """A translator in this process: upper case, with the target's tag in front; it counts what it is asked."""

    name, version, licence = "shouting", "1", "CC-BY-NC-4.0"

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = answers or {}
        self.requests: list[Request] = []
        self.closed = False

    def check(self, pairs: set[tuple[str, str]]) -> None:
        if unknown := {target for _, target in pairs if target == "xh"}:
            raise MlcError(f"unknown: {unknown}")

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        try:
            for request in reversed(requests):
                self.requests.append(request)
                answer = self.answers.get(request.text, f"{request.target}: {request.text.upper()}")
                if answer == "stop":
                    raise Stopped("no money")
                if answer == "ctrl-c":
                    raise KeyboardInterrupt
                yield Result(request, failure=answer[1:]) if answer.startswith("!") else Result(request, answer)
        finally:
            self.closed = True


SHOUTED = Provenance(translator="shouting", version="1", licence="CC-BY-NC-4.0")


def run(path: Path, translator: Shouting, job: Job, licence: str | None = None) -> None:
    fill.run(path, translator, job, path.parent / "cache.sqlite", licence)


def test_only_what_is_missing_is_translated_once(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set("mend a bicycle", {"en": "bake bread", "sw": "oka mkate"}, "mend a bicycle")
    before, translator = read_prompts(path), Shouting()
    run(path, translator, Job(("sw", "bn"), "en"))
    assert len(translator.requests) == len(set(translator.requests)) == 3  # the same text of two rows is one request
    assert texts(path, "sw") == {"r0": "sw: MEND A BICYCLE", "r1": "oka mkate", "r2": "sw: MEND A BICYCLE"}
    for old, new in zip(before, read_prompts(path), strict=True):
        assert {tag: new.prompts[tag] for tag in old.prompts} == old.prompts
        for tag in new.prompts:
            by = Provenance(translator="human") if tag in old.prompts else SHOUTED
            assert new.provenance[tag] == by
        assert new.model_copy(update={"prompts": old.prompts, "provenance": old.provenance}) == old
    assert failures(path) == []


def test_the_cache_answers_for_another_set_but_not_for_another_version(prompt_set: Callable[..., Path]) -> None:
    run(prompt_set("one", "two"), Shouting(), Job(("sw",), "en"))
    again, newer = Shouting(), Shouting()
    newer.version = "2"
    run(prompt_set("two", "three"), again, Job(("sw",), "en"))
    assert [request.text for request in again.requests] == ["three"]
    run(prompt_set("two", "three"), newer, Job(("sw",), "en"))
    assert len(newer.requests) == 2


def test_back_translations_are_of_every_variant_and_keep_what_was_lost(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set({"en": "wait 3 days", "sw": "subiri siku tatu"}, "wait")
    run(path, Shouting({"subiri siku tatu": " wait three days\n"}), Job(("sw", "bn"), "en", back=True))
    first, second = read_prompts(path)
    assert first.back_translations == {"sw": "wait three days", "bn": "en: BN: WAIT 3 DAYS"}
    assert second.back_translations == {"sw": "en: SW: WAIT", "bn": "en: BN: WAIT"}
    third = Shouting()
    run(path, third, Job(("sw", "bn"), "en", back=True))
    assert third.requests == []


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with Cache(path, Shouting()) as cache:
        cache._answers._connection.execute(f"pragma max_page_count = {path.stat().st_size // 4096 + 8}")
        with pytest.raises(OSError, match="No space left on device"):
            for i in range(1000):
                cache.put(Request(f"{i}" * 100, "en", "sw"), "x" * 1000)
    with Cache(path, Shouting()) as cache:
        assert cache.get([Request("0" * 100, "en", "sw")])


def test_what_is_no_translation_is_a_failure_and_no_text(
    prompt_set: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = prompt_set("wait 3 days", "copied", "empty", "refused", "broken", "good", {"de": "ohne Englisch"})
    answers = {"wait 3 days": "siku", "copied": " copied ", "empty": " ", "refused": "!refused", "broken": "a\ud800"}
    with pytest.raises(
        TranslationError, match=r"6 texts were not translated: .*set\.failures\.jsonl says why"
    ) as raised:
        run(path, Shouting(answers), Job(("sw",), "en"))
    assert raised.value.exit_code == 6
    assert texts(path, "sw") == {"r5": "sw: GOOD"}
    reasons = {line["id"]: (line["language"], line["reason"], line["translation"]) for line in failures(path)}
    assert reasons == {
        "r0": ("sw", "lost: 3", "siku"),
        "r1": ("sw", "the same as the source", " copied "),
        "r2": ("sw", "empty", " "),
        "r3": ("sw", "refused", None),
        "r4": ("sw", "not valid Unicode", None),
        "r6": ("sw", "the row has no text in en", None),
    }
    assert "1 translated, 0 from the cache" in capsys.readouterr().out
    # What is flagged was translated all the same: it is not asked for again, and is kept when a person says so.
    again = Shouting()
    with pytest.raises(TranslationError):
        run(path, again, Job(("sw",), "en", keep_flagged=True))
    assert {request.text for request in again.requests} == {"refused", "broken"}
    assert texts(path, "sw")["r0"] == "siku"
    assert {line["id"] for line in failures(path)} == {"r1", "r2", "r6"}


def test_names_that_are_given_have_to_stay(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set("call Acme", "call Bert")
    with pytest.raises(TranslationError):
        run(path, Shouting(), Job(("sw",), "en", names=("Acme",)))
    assert [line["reason"] for line in failures(path)] == ["lost: Acme"]


@pytest.mark.parametrize(("how", "error", "code"), [("stop", Stopped, 6), ("ctrl-c", Interrupted, 130)])
def test_a_stopped_run_writes_what_it_has_and_goes_on(
    prompt_set: Callable[..., Path], how: str, error: type[Stopped], code: int
) -> None:
    path = prompt_set("one", "two", "three")
    translator = Shouting({"two": how})
    with pytest.raises(error, match=GO_ON) as raised:
        run(path, translator, Job(("sw",), "en"))
    assert raised.value.exit_code == code and translator.closed
    assert texts(path, "sw") == {"r2": "sw: THREE"}
    again = Shouting()
    run(path, again, Job(("sw",), "en"))
    assert {request.text for request in again.requests} == {"one", "two"}
    assert len(texts(path, "sw")) == 3


def test_edits_made_meanwhile_stay(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set("one", "two", "three")

    class Slow(Shouting):
        def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
            rows = read_prompts(path)
            edited = rows[0].model_copy(update={"prompts": {"en": "one", "sw": "moja"}})
            changed = rows[1].model_copy(update={"prompts": {"en": "deux"}})
            write_prompts(path, [edited, changed, rows[2], row(9, {"en": "new"})])
            yield from super().translate(requests)

    run(path, Slow(), Job(("sw",), "en"))
    # The changed row's translation is of a text that is no longer there.
    assert texts(path, "sw") == {"r0": "moja", "r2": "sw: THREE"}
    assert len(read_prompts(path)) == 4


def test_a_limit_counts_texts_and_the_next_run_goes_on(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set("one", "two", "three")
    for done in (2, 3):
        translator = Shouting()
        run(path, translator, Job(("sw",), "en", limit=2))
        assert len(texts(path, "sw")) == done and len(translator.requests) <= 2


def test_mistakes_are_found_before_anything_is_translated(prompt_set: Callable[..., Path]) -> None:
    path, translator = prompt_set("one"), Shouting()
    with pytest.raises(MlcError, match="unknown"):
        run(path, translator, Job(("sw", "xh"), "en"))
    assert translator.requests == []
    for languages in ("", "en,sw", "swahili", "sw;bn"):
        with pytest.raises(MlcError, match="--languages"):
            fill.job(languages, "en", False, None, None, False)
    assert fill.job("sw, bn,sw", "en", False, None, ["A", ""], False) == Job(("sw", "bn"), "en", names=("A",))
    (path.parent / "cache.sqlite").write_text("no database, but long enough to be looked at as one" * 20)
    with pytest.raises(MlcError, match="no translation cache"):
        run(path, translator, Job(("sw",), "en"))


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["sw", "bn"])), max_size=8)
)
def test_the_cache_gives_back_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("cache") / "deep" / "cache.sqlite"
    requests = [Request(text, "en", target) for text, target in items]
    with Cache(path, Shouting()) as cache:
        for request in requests:
            cache.put(request, f"first {request.text}")
            cache.put(request, "second")
    with Cache(path, Shouting()) as cache:
        assert cache.get(requests) == {request: f"first {request.text}" for request in requests}
        assert cache.get([Request("other", "en", "sw")]) == {}
    assert sqlite3.connect(path).execute("select count(*) from translations").fetchone() == (len(set(requests)),)


def test_a_translation_keeps_the_licence_that_is_named_or_the_translators_own(
    prompt_set: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, silent = prompt_set("mend a bicycle"), Shouting()
    run(path, Shouting(), Job(("sw",), "en"))
    assert "licence of shouting: CC-BY-NC-4.0" in capsys.readouterr().out
    run(path, Shouting(), Job(("bn",), "en"), "Apache-2.0")
    silent.licence = None  # type: ignore[assignment]
    run(path, silent, Job(("hi",), "en"))
    assert "licence of shouting: unknown; --licence names it" in capsys.readouterr().out
    (row,) = read_prompts(path)
    found = {tag: by.licence for tag, by in row.provenance.items()}
    assert found == {"en": None, "sw": "CC-BY-NC-4.0", "bn": "Apache-2.0", "hi": None}
