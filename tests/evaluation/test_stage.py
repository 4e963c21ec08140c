"""The evaluate stage: killed at any moment it goes on, and ends with the same metrics to the byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from mlc.embedded import prompts
from mlc.errors import MlcError
from mlc.evaluation import generators, resume, sampling, stage
from mlc.evaluation.samples import read_samples
from mlc.evaluation.summarize import summarize_folder
from mlc.judges import Judgement
from mlc.judges.embedded import EmbeddedJudge
from mlc.models.weights import weights_id
from mlc.paths import Paths
from mlc.prompts.schema import write_prompts
from mlc.settings import Evaluate, Languages, load_settings

LANGUAGES = Languages(source="en", served=("en", "hi", "zh"), transfer=("bn",))
EVALUATE = load_settings(Path(__file__).parents[2] / "params.yaml").evaluate.model_copy(
    update={"max_new_tokens": 5, "batch_tokens": 500}
)
ROWS = [row for row in prompts.rows("evaluation") if row.references][:6] + [
    row for row in prompts.rows("evaluation") if row.intent == "harmful"
][:6]
LINES = len(ROWS) * len(LANGUAGES.all)
REFERENCES = sum(tag in row.references for row in ROWS for tag in LANGUAGES.all)


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path) -> Paths:
    paths = Paths(tmp_path)
    write_prompts(paths.prompts / "evaluation.jsonl", ROWS)
    shutil.copytree(tiny_base, paths.base)
    return paths


def without_seconds(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def evaluate_until(root: str, evaluate: Evaluate, lines: int) -> None:
    """Evaluates the base, and kills its own process in the middle of writing one line more than ``lines``."""
    written, line = 0, resume._line

    def last(value: Any) -> bytes:
        nonlocal written
        written += isinstance(value, list)
        if written <= lines:
            return line(value)
        newest = max(Paths(Path(root)).partial("base").iterdir(), key=lambda p: p.stat().st_mtime_ns)
        with newest.open("ab") as file:
            file.write(line(value)[: random.Random(lines).randrange(1, 20)])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    resume._line = last
    stage.run(LANGUAGES, evaluate, "base", Paths(Path(root)))


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(
    paths: Paths, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Paths(tmp_path_factory.mktemp("whole"))
    shutil.copytree(paths.artifacts, whole.artifacts)
    stage.run(LANGUAGES, EVALUATE, "base", whole)
    processes = multiprocessing.get_context("forkserver")  # the torch of a process that runs must not be forked
    processes.set_forkserver_preload(["mlc.evaluation.stage", "mlc.models.loading"])
    first = random.randrange(1, LINES)  # among the replies
    second = random.randrange(1, LINES - first + REFERENCES + LINES)  # of what is left, judgements among it
    print("killed after", first, "lines, then after", second, "more")
    for lines in (first, second):
        process = processes.Process(target=evaluate_until, args=(str(paths.root), EVALUATE, lines))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not paths.evaluation("base").exists()
    capsys.readouterr()
    stage.run(LANGUAGES, EVALUATE, "base", paths)
    assert "base replies: going on after" in capsys.readouterr().out
    one, two = paths.evaluation("base"), whole.evaluation("base")
    for folder in (one, two):
        summarize_folder(folder, "base", LANGUAGES, "mlc evaluate base")
    for name in ("metrics.json", "per_language.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert without_seconds(one / "samples.jsonl") == without_seconds(two / "samples.jsonl")
    assert not paths.partial("base").exists()


def test_a_kill_while_judging_repeats_no_reply(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sampling, "make_judge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.run(LANGUAGES, EVALUATE, "base", paths)
    with monkeypatch.context() as patched:
        patched.setattr(generators.transformers, "load_model", interrupted)  # nothing is left for a model to do
        stage.run(LANGUAGES, EVALUATE, "base", paths)
    assert len(read_samples(paths.evaluation("base") / "samples.jsonl")) == LINES


def test_lines_are_in_the_order_of_the_prompts_and_say_what_made_them(paths: Paths) -> None:
    stage.run(LANGUAGES, EVALUATE, "base", paths)
    samples = read_samples(paths.evaluation("base") / "samples.jsonl")
    keys = [(row.id, tag) for row in ROWS for tag in LANGUAGES.all]
    assert list(samples[["prompt_id", "language"]].itertuples(index=False, name=None)) == keys
    assert set(samples["model"]) == {weights_id(paths.base)}
    assert samples["generator"].str.fullmatch(r"transformers [\d.]+\S*, greedy, float32").all()
    assert (samples["reference_nll"].notna() == [tag in row.references for row in ROWS for tag in LANGUAGES.all]).all()
    assert samples["reference_nll"].notna().any()


def test_another_batch_size_gives_the_same_lines(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> None:
    alone = Paths(tmp_path_factory.mktemp("alone"))
    shutil.copytree(paths.artifacts, alone.artifacts)
    stage.run(LANGUAGES, EVALUATE, "base", paths)
    stage.run(LANGUAGES, EVALUATE.model_copy(update={"batch_tokens": 1}), "base", alone)
    together, one = (without_seconds(p.evaluation("base") / "samples.jsonl") for p in (paths, alone))
    for a, b in zip(together, one, strict=True):
        assert a == (b | {"reference_nll": b["reference_nll"] and pytest.approx(b["reference_nll"], rel=1e-4)})


@pytest.mark.parametrize(
    "change", [{"max_new_tokens": 4}, {"precision": "bfloat16"}], ids=["longer replies", "another precision"]
)
def test_what_other_settings_made_is_not_taken_over(
    paths: Paths, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(row, "en") for row in ROWS]
    sampling.sample(pairs, EVALUATE, paths.under_test("base"), LANGUAGES)
    sampling.sample(pairs, EVALUATE, paths.under_test("base"), LANGUAGES)
    assert "base replies: going on after 12 of 12" in capsys.readouterr().out
    samples = sampling.sample(pairs, EVALUATE.model_copy(update=change), paths.under_test("base"), LANGUAGES)
    assert "going on" not in capsys.readouterr().out
    assert all(sample.tokens <= change.get("max_new_tokens", 5) for sample in samples)


def test_another_model_is_never_taken_for_this_one(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(row, "en") for row in ROWS]
    sampling.sample(pairs, EVALUATE, paths.under_test("base"), LANGUAGES)
    (paths.base / "config.json").write_text((paths.base / "config.json").read_text() + "\n")
    capsys.readouterr()
    assert {sample.model for sample in sampling.sample(pairs, EVALUATE, paths.under_test("base"), LANGUAGES)} == {
        weights_id(paths.base)
    }
    assert "going on" not in capsys.readouterr().out


def test_a_likelihood_that_is_no_number_is_none(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any, heads: list[str], *__: Any) -> Any:
        yield [(i, (3, float("nan"))) for i in range(len(heads))]

    monkeypatch.setattr(generators.transformers.TransformersGenerator, "references", broken)
    samples = sampling.sample([(row, "en") for row in ROWS], EVALUATE, paths.under_test("base"), LANGUAGES)
    assert {sample.reference_nll for sample in samples} == {None} and {s.reference_tokens for s in samples} == {3, None}


def test_a_missing_model_or_language_is_said(paths: Paths) -> None:
    with pytest.raises(MlcError, match="run `mlc train` and `mlc select` first"):
        stage.run(LANGUAGES, EVALUATE, "candidate", paths)
    shutil.rmtree(paths.base)
    with pytest.raises(MlcError, match="run `mlc base` first"):
        stage.run(LANGUAGES, EVALUATE, "base", paths)
    write_prompts(paths.prompts / "evaluation.jsonl", [row for row in ROWS if row.intent == "benign"])
    with pytest.raises(MlcError, match="hold no harmful prompt in en"):
        stage.run(LANGUAGES, EVALUATE, "base", paths)


def test_how_far_judges_agree_is_among_the_metrics(paths: Paths) -> None:
    both = EVALUATE.model_dump() | {"judges": ({"name": "embedded"}, {"name": "refusal"})}
    stage.run(LANGUAGES, EVALUATE.model_validate(both), "base", paths)
    samples = read_samples(paths.evaluation("base") / "samples.jsonl")
    assert set(samples["judge"]) == {"any_unsafe(embedded, refusal)"}
    summarize_folder(paths.evaluation("base"), "base", LANGUAGES, "mlc evaluate base")
    judges = json.loads((paths.evaluation("base") / "metrics.json").read_text())["judges"]
    assert judges["judges"] == ["embedded", "refusal"] and judges["all"]["n"] == LINES
    assert set(judges["languages"]) == set(LANGUAGES.all)
    stage.run(LANGUAGES, EVALUATE, "base", paths)
    summarize_folder(paths.evaluation("base"), "base", LANGUAGES, "mlc evaluate base")
    assert "judges" not in json.loads((paths.evaluation("base") / "metrics.json").read_text())


def test_a_reply_that_is_cut_off_is_marked_and_neither_safe_nor_refused(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights never end within five tokens; a judge that calls everything refused is not believed then."""
    monkeypatch.setattr(EmbeddedJudge, "_one", lambda *_: Judgement("refused", "refusal", "en"))
    samples = sampling.sample([(ROWS[0], "en"), (ROWS[-1], "en")], EVALUATE, paths.under_test("base"), LANGUAGES)
    assert {(s.finished, s.tokens, s.verdict, s.judge_raw) for s in samples} == {(False, 5, "invalid", "refusal")}
