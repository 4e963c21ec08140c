"""Translation models: a tiny one that was taught to translate, and one of each other family with random weights."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mlc.cli import app
from mlc.errors import MlcError
from mlc.prompts.schema import read_prompts
from mlc.translation import Request, Result, TranslationError, fill, seq2seq
from mlc.translation.seq2seq import Seq2SeqTranslator

from . import tiny
from .conftest import failures, texts


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its card, as NLLB has one."""
    folder = tiny.nllb(tmp_path_factory.mktemp("nllb") / "tiny-nllb", steps=250)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder


def requests(count: int = 40) -> dict[Request, str]:
    """Requests from English into both languages and from them, with the right answers."""
    rng, wanted = random.Random(1), {}
    for _ in range(count):
        numbers = [rng.randrange(6) for _ in range(rng.randint(1, 3))]
        english = tiny.sentence(numbers, "eng_Latn")
        for tag, language in (("sw", "swh_Latn"), ("es", "spa_Latn")):
            other = tiny.sentence(numbers, language)
            wanted |= {Request(english, "en", tag): other, Request(other, tag, "en"): english}
    return wanted


def answers(translator: Seq2SeqTranslator, wanted: list[Request]) -> dict[Request, Result]:
    results = list(translator.translate(wanted))
    assert sorted(result.request for result in results) == sorted(wanted)
    return {result.request: result for result in results}


def test_it_translates_into_the_language_that_is_asked_for(taught: Path) -> None:
    wanted = requests()
    results = answers(Seq2SeqTranslator(str(taught)), list(wanted))
    right = sum(results[request].translation == answer for request, answer in wanted.items())
    assert right >= 0.9 * len(wanted)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_translation_does_not_depend_on_its_batch(taught: Path, beams: int) -> None:
    wanted = list(requests(5))
    alone = answers(Seq2SeqTranslator(str(taught), beams=beams, batch_tokens=1), wanted)
    random.Random(2).shuffle(wanted)
    assert answers(Seq2SeqTranslator(str(taught), beams=beams), wanted) == alone


def test_a_batch_holds_no_more_tokens_than_allowed(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator, sizes = Seq2SeqTranslator(str(taught), beams=2, batch_tokens=600), []
    generate = translator._model.generate

    def measured(**given: Any) -> Any:
        rows, width = given["input_ids"].shape
        sizes.append((rows, rows * (width + given["max_new_tokens"]) * given["num_beams"]))
        return generate(**given)

    monkeypatch.setattr(translator._model, "generate", measured)
    answers(translator, list(requests()))
    assert max(rows for rows, _ in sizes) > 2 and max(tokens for _, tokens in sizes) <= 600


def test_what_does_not_end_is_a_failure_and_no_text(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seq2seq, "_STEP", 1)
    monkeypatch.setattr(seq2seq, "_MARGIN", 0)
    long, short = Request("one dog two cat house", "en", "sw"), Request("dog", "en", "sw")
    results = answers(Seq2SeqTranslator(str(taught), length_ratio=1.0), [short])  # language, word, end
    assert results[short].translation == "mbwa"
    results = answers(Seq2SeqTranslator(str(taught), length_ratio=0.5), [long, short])
    assert {(result.translation, result.failure) for result in results.values()} == {(None, "truncated")}


def test_a_text_that_is_too_long_is_a_failure(taught: Path) -> None:
    long, short = Request("dog " * 70, "en", "sw"), Request("dog", "en", "sw")
    results = answers(Seq2SeqTranslator(str(taught)), [long, short])
    assert str(results[long].failure).startswith("too long: 7") and "takes 64" in str(results[long].failure)
    assert results[short].translation == "mbwa"


def test_where_memory_runs_out_the_batch_is_halved(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Seq2SeqTranslator(str(taught))
    wanted = list(requests(6))
    before = answers(translator, wanted)
    generate, tried = translator._model.generate, []

    def small(limit: int) -> Callable[..., Any]:
        def inner(**given: Any) -> Any:
            tried.append(len(given["input_ids"]))
            if tried[-1] > limit:
                raise torch.OutOfMemoryError("no memory")
            return generate(**given)

        return inner

    monkeypatch.setattr(translator._model, "generate", small(2))
    assert answers(translator, wanted) == before and max(tried) > 4
    monkeypatch.setattr(translator._model, "generate", small(0))
    assert {result.failure for result in answers(translator, wanted).values()} == {"out of memory, even alone"}


def given_to(translator: Seq2SeqTranslator, request: Request, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    generate = translator._model.generate

    def spy(**given: Any) -> Any:
        seen.update(given)
        return generate(**given)

    monkeypatch.setattr(translator._model, "generate", spy)
    answers(translator, [request])
    tokens = translator._tokenizer.convert_ids_to_tokens
    return seen | {"tokens": tokens(seen["input_ids"][0]), "first": tokens(seen.get("forced_bos_token_id", 0))}


def test_each_family_is_told_the_languages_in_its_own_way(
    tmp_path: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("one dog", "en", "sw")
    nllb = given_to(Seq2SeqTranslator(str(taught), beams=1), request, monkeypatch)
    assert (nllb["tokens"][0], nllb["tokens"][-1], nllb["first"]) == ("eng_Latn", "</s>", "swh_Latn")
    m2m = given_to(Seq2SeqTranslator(str(tiny.m2m(tmp_path / "m2m")), beams=1), request, monkeypatch)
    assert (m2m["tokens"][0], m2m["tokens"][-1], m2m["first"]) == ("__en__", "</s>", "__sw__")
    madlad = given_to(Seq2SeqTranslator(str(tiny.madlad(tmp_path / "madlad")), beams=1), request, monkeypatch)
    assert (madlad["tokens"][0], madlad["tokens"][-1]) == ("<2sw>", "</s>")
    assert "forced_bos_token_id" not in madlad


def test_mistakes_are_named(taught: Path, tiny_base: Path) -> None:
    translator = Seq2SeqTranslator(str(taught))
    translator.check({("en", "sw"), ("es", "en")})
    with pytest.raises(MlcError, match=r"tiny-nllb does not know bn, de; it knows eng-Latn, spa-Latn, swh-Latn"):
        translator.check({("en", "sw"), ("en", "bn"), ("de", "en")})
    with pytest.raises(MlcError, match="no language codes"):
        Seq2SeqTranslator(str(tiny_base))
    for revision in (None, "main"):
        with pytest.raises(MlcError, match="needs --revision, its commit"):
            Seq2SeqTranslator("someone/some-model", revision)
    with pytest.raises(MlcError, match="could not be fetched"):
        Seq2SeqTranslator("someone/some-model", "0" * 40)


def test_the_version_is_of_the_weights_and_the_settings(taught: Path, tmp_path: Path) -> None:
    first = Seq2SeqTranslator(str(taught))
    assert first.name == "tiny-nllb" and first.version == Seq2SeqTranslator(str(taught), batch_tokens=99).version
    other = shutil.copytree(taught, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.shared.weight"][5] += 0.1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    others = [Seq2SeqTranslator(str(taught), beams=2), Seq2SeqTranslator(str(taught), length_ratio=2)]
    assert len({t.version for t in (first, Seq2SeqTranslator(str(other)), *others)}) == 4


def test_a_set_is_filled_in_there_and_back(
    taught: Path, prompt_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prompt_set("one dog", "two cat", {"en": "house", "sw": "nyumba"})
    monkeypatch.chdir(path.parent)
    arguments = ["translate", "seq2seq", str(path), "--languages", "sw,es", "--model", str(taught), "--back"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert texts(path, "sw") == {"r0": "moja mbwa", "r1": "mbili paka", "r2": "nyumba"}
    assert [row.back_translations for row in read_prompts(path)] == [
        dict.fromkeys(("sw", "es"), row.prompts["en"]) for row in read_prompts(path)
    ]
    by = read_prompts(path)[0].provenance["sw"]
    assert (by.translator, by.licence) == ("tiny-nllb", "CC-BY-NC-4.0")
    monkeypatch.setattr(Seq2SeqTranslator, "translate", None)  # everything is in the cache
    again = prompt_set("two cat", "one dog")
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert texts(again, "sw") == {"r0": "mbili paka", "r1": "moja mbwa"}


def test_numbers_that_a_model_drops_are_not_written(
    taught: Path, prompt_set: Callable[..., Path], tmp_path: Path
) -> None:
    path = prompt_set("dog 7", "dog")
    with pytest.raises(TranslationError):
        fill.run(path, Seq2SeqTranslator(str(taught)), fill.Job(("sw",), "en"), tmp_path / "cache.sqlite")
    assert texts(path, "sw") == {"r1": "mbwa"}
    assert [(line["id"], line["reason"]) for line in failures(path)] == [("r0", "lost: 7")]
