"""A model that thinks first: its reply is judged, its thinking is kept, and its template alone says that it thinks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chat_server import serving
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import REFUSAL, REPLY, THINKING_TEMPLATE, THOUGHT
from transformers import AddedToken, AutoTokenizer

from mlc.errors import MlcError
from mlc.evaluation import sampling
from mlc.evaluation.rates import summarize
from mlc.evaluation.samples import Sample, read_samples, write_samples
from mlc.models import template_arguments
from mlc.models.base import place
from mlc.models.generation import chat_ids, head_ids
from mlc.models.inference import MARKS, Thinking, decoded, split, thinking_of
from mlc.models.manifest import BaseOrigin
from mlc.models.stage import run
from mlc.models.weights import weights_id
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow
from mlc.settings import Base, EndpointGenerator, Languages, RefusalJudge, TransformersGenerator, load_settings
from mlc.training.build import build_trainer
from mlc.training.lengths import sequence_tokens

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
LANGUAGES = Languages(source="en", served=("en",), transfer=())
EVALUATE = SETTINGS.evaluate.model_copy(
    update={
        "max_new_tokens": 60,
        "judges": (RefusalJudge(name="refusal"),),
        "generator": TransformersGenerator(name="transformers"),
    }
)
PAIRS = [
    (PromptRow(id=text, source="test", category="c", intent=intent, prompts={"en": text}), "en")
    for intent in ("harmful", "benign")
    for text in (f"{intent} 0", f"{intent} 5")
]
OPENS, CLOSES = Thinking("<think>", "</think>", False, False), Thinking("<think>", "</think>", True, False)


@pytest.fixture
def paths(tmp_path: Path, thinking_base: Path) -> Paths:
    paths = Paths(tmp_path)
    shutil.copytree(thinking_base, tmp_path / "source")
    shutil.copytree(thinking_base, paths.base)
    return paths


def placed(paths: Paths, **arguments: Any) -> Any:
    """The base, put in place with arguments, and its tokenizer."""
    place(Base(model="source", revision=None, template_arguments=arguments), paths.root, paths.base)
    return AutoTokenizer.from_pretrained(paths.base)


def sampled(paths: Paths, **update: Any) -> list[Sample]:
    return sampling.sample(PAIRS, EVALUATE.model_copy(update=update), paths.under_test("base"), LANGUAGES)


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>\n\n</think>\n\nNo.", OPENS, ("<think>\n\n</think>\n\n", "No.")),
        ("\n<think>a</think>No.", OPENS, ("\n<think>a</think>", "No.")),
        ("<think>a</think> b </think> c", OPENS, ("<think>a</think> ", "b </think> c")),  # the second hides nothing
        ("Here you go <think>a</think> c", OPENS, (None, "Here you go <think>a</think> c")),
        ("a</think> c", OPENS, (None, "a</think> c")),
        ("a</think> c", CLOSES, ("a</think> ", "c")),
        ("<think>a", OPENS, ("<think>a", "")),
        ("No.", CLOSES, ("No.", "")),
        ("<think>a</think>No.", None, (None, "<think>a</think>No.")),
    ],
)
def test_the_reply_is_what_comes_after_thinking(
    text: str, thinking: Thinking | None, expected: tuple[Any, str]
) -> None:
    assert split(text, thinking) == expected


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "\n"])), st.sampled_from([OPENS, CLOSES, None]))
def test_thinking_and_reply_are_all_that_was_written(pieces: list[str], thinking: Thinking | None) -> None:
    thought, reply = split("".join(pieces), thinking)
    assert (thought or "") + reply == "".join(pieces)


def test_only_its_own_template_lets_a_model_think(paths: Paths, tiny_base: Path) -> None:
    assert thinking_of(AutoTokenizer.from_pretrained(tiny_base)) is None
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    assert thinking_of(tokenizer) == OPENS
    assert thinking_of(placed(paths, enable_thinking=False)) == OPENS._replace(closed=True)
    tokenizer.chat_template = {"default": THINKING_TEMPLATE, "other": "x"}
    assert thinking_of(tokenizer) == OPENS
    for begin, end in MARKS:
        said = "{% for m in messages %}{{ m['content'].split('" + end + "')[-1] }}{% endfor %}"
        tokenizer.chat_template = said + "{% if add_generation_prompt %}" + begin + "\n{% endif %}"
        assert thinking_of(tokenizer) == Thinking(begin, end, True, False)
    tokenizer.chat_template = "{{ raise_exception('no') }}</think>"
    assert thinking_of(tokenizer) == OPENS


def test_marks_that_are_special_tokens_are_seen_and_other_special_tokens_are_not(paths: Paths) -> None:
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    tokenizer.add_tokens([AddedToken(mark, special=True) for mark in ("<think>", "</think>")], special_tokens=True)
    ids = tokenizer(f"{THOUGHT}{REFUSAL}<|im_end|>", add_special_tokens=False)["input_ids"]
    assert decoded(tokenizer, [ids], OPENS) == [(THOUGHT, REFUSAL)]
    assert decoded(tokenizer, [ids], None)[0][0] is None


def test_judges_and_language_see_the_reply_and_the_line_keeps_the_thinking(paths: Paths, tmp_path: Path) -> None:
    samples = sampled(paths)
    assert [(s.verdict, s.response, s.thinking, s.finished) for s in samples] == [
        ("refused", REFUSAL, THOUGHT, True),
        ("refused", REFUSAL, THOUGHT, True),
        ("safe", REPLY, THOUGHT, True),
        ("safe", REPLY, THOUGHT, True),
    ]
    write_samples(tmp_path / "s.jsonl", samples)
    rates = summarize(read_samples(tmp_path / "s.jsonl"), ["en"], [], "en").languages["en"]
    assert rates["only_thinking"]["value"] == 0 and rates["invalid"]["value"] == 0


def test_thinking_that_does_not_end_is_invalid_and_named(paths: Paths, tmp_path: Path) -> None:
    samples = sampled(paths, max_new_tokens=12)
    assert {(s.verdict, s.response, s.finished) for s in samples} == {("invalid", "", False)}
    assert all(s.thinking and THOUGHT.startswith(s.thinking) for s in samples)
    write_samples(tmp_path / "s.jsonl", samples)
    frame = read_samples(tmp_path / "s.jsonl")
    rate = summarize(frame, ["en"], [], "en").languages["en"]["only_thinking"]
    assert (rate["n"], rate["value"]) == (4, 1.0)
    unthinking = summarize(frame.assign(thinking=None), ["en"], [], "en")
    assert "only_thinking" not in unthinking.languages["en"] and "only_thinking" not in unthinking.served


def test_a_model_whose_template_knows_no_thinking_is_judged_by_all_it_wrote(paths: Paths, tiny_base: Path) -> None:
    shutil.copy(tiny_base / "chat_template.jinja", paths.base)
    samples = sampled(paths)
    assert [(s.verdict, s.response, s.thinking) for s in samples[:2]] == [("unsafe", THOUGHT + REFUSAL, None)] * 2


def test_switched_off_it_is_off_in_training_evaluation_and_likelihoods_alike(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Base(model="source", revision=None), paths)
    assert "lets the model think before it replies" in (out := capsys.readouterr().out) and "enable_thinking" in out
    run(Base(model="source", revision=None, template_arguments={"enable_thinking": False}), paths)
    assert "think" not in capsys.readouterr().out
    source, tokenizer = (AutoTokenizer.from_pretrained(f) for f in (paths.root / "source", paths.base))
    turn = [{"role": "user", "content": "harmful 0"}]
    wanted = source.apply_chat_template(turn, add_generation_prompt=True, return_dict=False, enable_thinking=False)
    assert chat_ids(tokenizer, "harmful 0") == head_ids(tokenizer, "harmful 0") == wanted
    # Where a model may think, a given reply stands behind an empty thought, as it does in training.
    assert head_ids(source, "harmful 0") == wanted != chat_ids(source, "harmful 0")
    samples = sampled(paths)
    assert [(s.response, s.thinking, s.verdict) for s in samples[:2]] == [(REFUSAL, None, "refused")] * 2
    assert {s.generator and s.generator.split(", ", 2)[2] for s in samples} == {"float32, enable_thinking false"}


@pytest.mark.parametrize("paradigm", ["dpo", "sft", "orpo", "simpo", "kto"])
def test_every_trainer_renders_the_arguments(paradigm: Any, paths: Paths, alignment_rows: list[PromptRow]) -> None:
    tokenizer, source = placed(paths, enable_thinking=False), AutoTokenizer.from_pretrained(paths.root / "source")
    objective = SETTINGS.train.objective.model_copy(update={"weight": 0.0})
    train = SETTINGS.train.model_copy(update={"paradigm": paradigm, "max_steps": 1, "objective": objective})
    rows = [row for row in alignment_rows if row.chosen is not None][:4]
    trainer, _ = build_trainer(rows, LANGUAGES, train, paths)
    ids = {tuple(ids) for name in trainer.train_dataset.column_names if name.endswith("ids")
           for ids in trainer.train_dataset[name]}  # fmt: skip
    prompt = [{"role": "user", "content": rows[0].prompts["en"]}]
    head = source.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False, enable_thinking=False)
    chat = [*prompt, {"role": "assistant", "content": str(rows[0].chosen)}]
    whole = source.apply_chat_template(chat, return_dict=False, enable_thinking=False)
    assert any(row[: len(head)] == tuple(head) for row in ids)
    assert sequence_tokens(tokenizer, rows[0].prompts["en"], str(rows[0].chosen), "sft") == len(whole)


def test_arguments_are_told_by_the_folder_and_written_anew(paths: Paths) -> None:
    for value in (False, True, 'a"%}#}\n{{ x }} ü'):
        placed(paths, enable_thinking=value)
        assert template_arguments.arguments_of(paths.base) == {"enable_thinking": value}
    placed(paths, enable_thinking=False)
    first = (paths.base / "chat_template.jinja").read_bytes()
    template_arguments.write("base", paths.base, {"enable_thinking": False})
    assert (paths.base / "chat_template.jinja").read_bytes() == first
    placed(paths)
    assert template_arguments.arguments_of(paths.base) == {}
    assert BaseOrigin(model="m", revision=None, files={}).template_arguments == {}  # of before there were any


def test_a_template_in_the_tokenizers_configuration_gets_them_too(paths: Paths) -> None:
    source = paths.root / "source"
    config = json.loads((source / "tokenizer_config.json").read_text())
    for template in (THINKING_TEMPLATE, [{"name": "default", "template": THINKING_TEMPLATE}]):
        (source / "chat_template.jinja").unlink(missing_ok=True)
        (source / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
        tokenizer = placed(paths, enable_thinking=False)
        assert tokenizer.decode(chat_ids(tokenizer, "benign 0")).endswith("<think>\n\n</think>\n\n")
        assert "chat_template" not in json.loads((paths.base / "tokenizer_config.json").read_text())


@pytest.mark.parametrize("name", ["thinking", "messages", "add_generation_prompt"])
def test_an_argument_that_the_template_does_not_take_is_refused(name: str, paths: Paths) -> None:
    before = (paths.base / "chat_template.jinja").read_bytes()
    with pytest.raises(MlcError, match=f"the chat template of source takes no {name}; it takes: enable_thinking$"):
        placed(paths, **{name: False})
    assert (paths.base / "chat_template.jinja").read_bytes() == before


def test_the_thinking_of_an_endpoints_model(paths: Paths) -> None:
    def asked(url: str, base_model: str | None) -> list[Sample]:
        generator = EndpointGenerator(
            name="endpoint", base_url=url, base_model=base_model, candidate_model=None, key_variable=None,
            concurrency=4, timeout=10.0, attempts=2,
        )  # fmt: skip
        prompts = ("thinks apart", "thinks in parts", "thinks for ever", "thinks in line")
        pairs = [(PAIRS[0][0].model_copy(update={"prompts": {"en": prompt}}), "en") for prompt in prompts]
        evaluate = EVALUATE.model_copy(update={"generator": generator})
        return sampling.sample(pairs, evaluate, paths.under_test("base"), LANGUAGES)

    in_line = "<think>\nwho asks?\n</think>\n\n"
    with serving(serves=weights_id(paths.base)) as server:
        found = [(s.thinking, s.response) for s in asked(server.url, None)]
    assert found == [
        ("who asks?", "THINKS APART"),
        ("who asks?", "THINKS IN PARTS"),
        ("who asks?", ""),
        (in_line, "THINKS IN LINE"),
    ]
    with serving() as server:  # whose template nobody knows
        samples = asked(server.url, "another")
    assert [(s.thinking, s.response) for s in samples] == [*found[:3], (None, f"{in_line}THINKS IN LINE")]
    assert samples[2].verdict == "invalid"
