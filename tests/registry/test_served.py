"""What is served is what was evaluated: the same replies, by the same code, checked before anything is registered."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_model import REFUSAL, REPLY, THOUGHT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mlc import chat
from mlc.errors import IntegrityError, MlcError
from mlc.evaluation import statistics
from mlc.evaluation.samples import Sample, sample_lines, write_samples
from mlc.evaluation.sampling import sample_prompt_set
from mlc.evaluation.summarize import summarize_folder
from mlc.files import read_json, sha256, write_json
from mlc.models import inference, template_arguments
from mlc.models.generation import Reply, chat_ids, generate
from mlc.models.loading import load_model
from mlc.models.manifest import Manifest
from mlc.models.weights import weights_id
from mlc.provenance.chain import Provenance
from mlc.registry import package, served
from mlc.registry.verify import FILES
from registry.test_stage import EVALUATE, LANGUAGES, Project, evaluated

PROMPTS = [f"{intent} {i}" for intent in ("harmful", "benign") for i in range(25)]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, store: Path, tiny_base: Path) -> Iterator[Project]:
    """A project whose candidate has passed the gate, to be copied: metrics and verdict take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.setattr(statistics, "RESAMPLES", 1000)
        root = tmp_path_factory.mktemp("gated")
        (root / "mlflow").mkdir()
        shutil.copy(store, root / "mlflow")
        project = Project(root, tiny_base)
        project.gate()
        yield project


@pytest.fixture
def project(gated: Project, tmp_path: Path) -> Project:
    root = tmp_path / "project"
    shutil.copytree(gated.root, root)
    return Project.at(root, gated.tiny)


def adapter(project: Project, **lora: Any) -> None:
    """The candidate is an adapter over the base, not whole weights."""
    shutil.rmtree(project.paths.model)
    base = AutoModelForCausalLM.from_pretrained(project.paths.base)
    settings = {"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False} | lora
    get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)).save_pretrained(project.paths.model)
    AutoTokenizer.from_pretrained(project.paths.base).save_pretrained(project.paths.model)


def write_replies(project: Project, replies: Mapping[str, Reply]) -> None:
    """The candidate's sample lines with these replies to prompts; all else in them stays."""
    path, model = project.paths.samples("candidate"), weights_id(project.paths.model)
    write_samples(
        path,
        [
            line.model_copy(
                update={"model": model, "response": reply.text, "tokens": reply.tokens, "thinking": reply.thinking}
            )
            for line in sample_lines(path)
            for reply in [replies[line.prompt]]
        ],
    )


def saved(project: Project) -> Path:
    """The candidate evaluated, and packaged and asked again as by `register`."""
    project.manifest()
    write_replies(project, dict(zip(PROMPTS, evaluated(project.paths, PROMPTS, project.evaluate), strict=True)))
    folder = packaged(project)
    check(project, folder)
    return folder


NOWHERE = Provenance(schema_version=Provenance.VERSION, commit="0" * 40, data=None, stages={})


def packaged(project: Project) -> Path:
    folder = project.root / "package"
    package.save(folder, Manifest.of(project.paths.model), NOWHERE, project.evaluate, project.paths)
    return folder


def check(project: Project, folder: Path, share: float = 0.2) -> None:
    settings = project.settings()
    register = settings.register_.model_copy(update={"served_share": share})
    served.check(
        folder,
        Manifest.of(project.paths.model),
        settings.model_copy(update={"register_": register}),
        project.paths,
    )


def answers(folder: Path, prompts: Sequence[str], **config: Any) -> list[str]:
    """What the packaged model says, as whoever has loaded it hears it."""
    model = mlflow.pyfunc.load_model(str(folder), model_config=config or None)
    completions = model.predict(pd.DataFrame({"messages": [[{"role": "user", "content": p}] for p in prompts]}))
    return [completion["choices"][0]["message"]["content"] for completion in completions]


def said(project: Project, prompts: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    """What the candidate answers in `mlc chat`."""
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{prompt}\n/new\n" for prompt in prompts)))
    chat.run(["candidate"], project.settings(), None, project.evaluate.max_new_tokens, True, project.paths)
    return [json.loads(line)["replies"][0]["response"] for line in capsys.readouterr().out.splitlines()]


def change_json(path: Path, **changes: Any) -> None:
    write_json(path, read_json(path, "") | changes)


SETTINGS_OF_GENERATION: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 4},
    "no_repeats": {"no_repeat_ngram_size": 1},
    "stop_strings": {"stop_strings": ["e", " "]},
    "tokens": {"suppress_tokens": list(range(300)), "begin_suppress_tokens": [301], "forced_eos_token_id": 400},
    "words": {"bad_words_ids": [[i] for i in range(10, 300)], "sequence_bias": [[[400], 9.0]]},
    "sampling": {"do_sample": True, "temperature": 9.0, "top_k": 5, "repetition_penalty": 5.0},
    "lengths": {"max_new_tokens": 2, "max_length": 10, "exponential_decay_length_penalty": [1, 9.0]},
}


@pytest.mark.parametrize("name", SETTINGS_OF_GENERATION)
def test_no_setting_of_generation_that_comes_with_a_model_changes_what_is_served(
    project: Project,
    name: str,
) -> None:
    before = [reply.text for reply in evaluated(project.paths, PROMPTS)]
    change_json(project.paths.model / "generation_config.json", **SETTINGS_OF_GENERATION[name])
    assert answers(saved(project), PROMPTS) == before


@pytest.mark.parametrize("settings", [{"eos_token_id": 0}, {"min_new_tokens": 12}], ids=["another end", "no end"])
def test_an_adapter_ends_where_it_did_whatever_its_base_says(project: Project, settings: dict[str, int]) -> None:
    """As base models are published whose chat template ends turns by a token that their settings do not name."""
    config: Any = AutoConfig.from_pretrained(project.paths.base)
    config.tie_word_embeddings, config.initializer_range = False, 0.5  # else it says one token again and again
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(project.paths.base)
    adapter(project)
    model, tokenizer = load_model(project.paths.model, project.paths.base, "float32")
    encoded = [chat_ids(tokenizer, prompt) for prompt in PROMPTS]
    made = [answer.ids for answer in inference.answers(model, tokenizer, encoded, 12)]
    end = next(one for ids in made for one, two in pairwise(ids[1:]) if one != two)  # more follows
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    for folder in (project.paths.model, project.paths.base):
        tokenizer.save_pretrained(folder)
    for file in ("config.json", "generation_config.json"):
        change_json(project.paths.base / file, **{"eos_token_id": end} | settings)
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 12})
    folder = saved(project)
    replies = evaluated(project.paths, PROMPTS, project.evaluate)
    assert any(reply.tokens < 12 for reply in replies)
    assert answers(folder, PROMPTS) == [reply.text for reply in replies]


@pytest.mark.parametrize(
    ("kind", "padding"),
    [("weights", "left"), ("weights", "none"), ("adapter", "right"), ("adapter on tied embeddings", "none")],
)
def test_evaluation_chat_and_the_served_model_say_the_same(
    project: Project,
    kind: str,
    padding: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is in the batch, on whichever side the tokenizer pads, and where it has no token for that."""
    if kind != "weights":
        adapter(project, target_modules=["q_proj"] + ["embed_tokens"] * (kind != "adapter"))
    for folder in (project.paths.model, project.paths.base):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if padding == "none":
            tokenizer.pad_token = None
        else:
            tokenizer.padding_side = padding
        tokenizer.save_pretrained(folder)
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 12})
    prompts = [*PROMPTS[:6], "How do I bake bread, and how do I repair a bicycle afterwards?", "?"]
    folder = saved(project)
    expected = [reply.text for reply in evaluated(project.paths, prompts, project.evaluate)]
    assert answers(folder, prompts) == expected
    assert answers(folder, prompts, batch_tokens=1) == answers(folder, prompts, batch_tokens=150) == expected
    assert answers(folder, prompts[::-1]) == expected[::-1]
    assert said(project, prompts, monkeypatch, capsys) == expected


@pytest.mark.parametrize("off", [False, True])
def test_what_a_model_thinks_is_not_served_and_what_it_replies_is(
    project: Project,
    thinking_base: Path,
    off: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The reply that was judged; and the registered version's template has the arguments that the base's has."""
    for folder in (project.paths.model, project.paths.base):
        shutil.rmtree(folder)
        shutil.copytree(thinking_base, folder)
        if off:
            template_arguments.write("base", folder, {"enable_thinking": False})
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 60})
    folder = saved(project)
    assert Manifest.of(project.paths.model).base.template_arguments == ({"enable_thinking": False} if off else {})
    prompts = ["harmful 0", "benign 5"]
    made = evaluated(project.paths, prompts, project.evaluate)
    assert [(reply.text, reply.thinking) for reply in made] == [
        (REFUSAL, None if off else THOUGHT),
        (REPLY, None if off else THOUGHT),
    ]
    assert answers(folder, prompts) == [REFUSAL, REPLY] == said(project, prompts, monkeypatch, capsys)
    if not off:  # a reply without its last letter is not the likeliest behind that thinking
        lines = sample_lines(project.paths.samples("candidate"))
        short = [line.model_copy(update={"response": line.response[:-1]}) for line in lines]
        write_samples(project.paths.samples("candidate"), short)
        with pytest.raises(IntegrityError, match="does not answer as it was evaluated"):
            check(project, folder)


def test_it_is_served_in_the_precision_that_was_evaluated(project: Project) -> None:
    """Whatever the files are stored in; and what rounding alone makes of a reply in another batch is no difference."""
    project.evaluate = EVALUATE.model_copy(update={"precision": "bfloat16", "max_new_tokens": 12})
    folder = saved(project)
    (model,) = {p.dtype for p in mlflow.pyfunc.load_model(str(folder)).unwrap_python_model().model.parameters()}
    assert model == torch.bfloat16
    shutil.rmtree(folder)
    AutoModelForCausalLM.from_pretrained(project.tiny, dtype=torch.bfloat16).save_pretrained(project.paths.model)
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 12})
    folder = saved(project)
    (model,) = {p.dtype for p in mlflow.pyfunc.load_model(str(folder)).unwrap_python_model().model.parameters()}
    assert model == torch.float32


def test_the_package_stands_alone(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = saved(project)
    shutil.move(folder, tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    expected = [reply.text for reply in evaluated(project.paths, PROMPTS)]
    monkeypatch.setitem(sys.modules, "mlc", None)  # as where it is not installed
    assert answers(tmp_path / "elsewhere", PROMPTS) == expected


def test_what_serves_is_among_the_hashed_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(project)
    listed = read_json(folder / FILES, "")
    code = ("pyfunc_model.py", "artifacts/inference.py", "MLmodel")
    assert {name: listed[name] for name in code} == {name: sha256(folder / name) for name in code}
    changed = project.root / "inference.py"
    changed.write_text(package.INFERENCE.read_text() + "\n")
    monkeypatch.setattr(package, "INFERENCE", changed)
    package.save(project.root / "other", Manifest.of(project.paths.model), NOWHERE, project.evaluate, project.paths)
    assert sha256(project.root / "other" / FILES) != sha256(folder / FILES)


def test_no_reply_is_longer_than_those_that_were_judged(project: Project) -> None:
    folder = saved(project)
    assert "Replies of up to 4 tokens were judged" in (folder / "README.md").read_text()
    model = mlflow.pyfunc.load_model(str(folder))
    assert model.metadata.signature.params.params[0].default == 4
    chats = pd.DataFrame({"messages": [[{"role": "user", "content": "benign 1"}]]})
    assert model.predict(chats, params={"max_tokens": 2})[0]["choices"][0]["finish_reason"] == "length"
    for wrong in (5, 0, -1):
        with pytest.raises(
            MlflowException, match=rf"max_tokens is {wrong}: this model was judged by replies of up to 4"
        ):
            model.predict(chats, params={"max_tokens": wrong})


def plant(project: Project, replies: dict[int, str]) -> None:
    """Other replies in the candidate's sample lines, at these places; all else in them stays."""
    path = project.paths.samples("candidate")
    lines = [s.model_copy(update={"response": replies.get(i, s.response)}) for i, s in enumerate(sample_lines(path))]
    write_samples(path, lines)


REFUSED = r"does not answer as it was evaluated, and nothing is registered: \d+ of \d+ .* to prompt \w+-\d+ in (en|es)"
PLANTED = "I cannot help with that."


def test_a_candidate_with_planted_replies_is_not_registered(project: Project) -> None:
    plant(project, dict.fromkeys(range(100), PLANTED))
    summarize_folder(project.paths.evaluation("candidate"), "candidate", LANGUAGES, "mlc evaluate candidate")
    project.gate()
    with pytest.raises(IntegrityError, match=REFUSED) as refusal:
        project.register()
    assert PLANTED not in str(refusal.value)
    assert project.model.versions() == [] and not project.paths.registration.exists()
    assert not list(project.paths.artifacts.glob(".register-*"))


def test_a_few_planted_replies_are_found_where_they_are_asked_for(project: Project) -> None:
    """By how many draws: test_every_language_is_asked_and_nobody_knows_what."""
    folder = packaged(project)
    check(project, folder, share=1.0)
    for planted in (PLANTED, "", sample_lines(project.paths.samples("candidate"))[78].response[:-1]):
        project.paths.samples("candidate").write_bytes((folder / "evidence" / "samples.jsonl").read_bytes())
        plant(project, {77: planted})
        with pytest.raises(IntegrityError, match=r"1 of 100 replies .* to prompt \w+-\d+ in es"):
            check(project, folder, share=1.0)


def test_another_models_samples_are_found(project: Project) -> None:
    """They lie under this model's id, and each is a model's greedy reply."""
    folder = packaged(project)
    weights = project.paths.model / "model.safetensors"
    own = weights.read_bytes()
    tensors = load_file(weights)
    tensors["model.norm.weight"] *= -1
    save_file(tensors, weights, metadata={"format": "pt"})
    others = evaluated(project.paths, PROMPTS)
    weights.write_bytes(own)
    write_replies(project, dict(zip(PROMPTS, others, strict=True)))
    with pytest.raises(IntegrityError, match=REFUSED):
        check(project, folder)


def test_what_was_planted_in_a_file_to_resume_from_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packaged(project)
    subject, target = project.paths.under_test("candidate"), project.paths.samples("candidate")
    arguments = project.paths.prompts / "evaluation.jsonl", LANGUAGES, project.evaluate, target
    with monkeypatch.context() as killed:  # after the last reply
        killed.setattr("mlc.evaluation.sampling.forget", lambda _: None)
        sample_prompt_set(subject, *arguments)
    check(project, folder)
    kept = subject.partial / "replies.jsonl"
    head, *lines = kept.read_text().splitlines()
    planted = [json.dumps([json.loads(line)[0], [PLANTED, 4, 0.1, ""]]) for line in lines]
    kept.write_text("\n".join([head, *planted]) + "\n")
    sample_prompt_set(subject, *arguments)
    assert {sample.response for sample in sample_lines(target)} == {PLANTED}
    with pytest.raises(IntegrityError, match=REFUSED):
        check(project, folder)


def lines(count: int, language: str) -> list[Sample]:
    line = {
        **{"prompt_id": "a", "language": language, "category": "c", "intent": "harmful", "model": "m", "prompt": "p"},
        **{"response": "r", "verdict": "refused", "judge": "j", "judge_version": "1", "judge_raw": ""},
        **{"response_language": language, "tokens": 1, "seconds": 0.0},
    }
    return [Sample.model_validate(line | {"prompt_id": str(i)}) for i in range(count)]


def test_every_language_is_asked_and_nobody_knows_what() -> None:
    samples = [*lines(300, "en"), *lines(20, "es"), *lines(3, "sw")]
    draws = [served._chosen(samples, 0.2) for _ in range(300)]
    for draw in draws:
        assert [len([s for s in draw if s.language == tag]) for tag in ("en", "es", "sw")] == [60, 8, 3]
        assert len({(s.prompt_id, s.language) for s in draw}) == 71
    # Of fifteen planted replies of 300, one is found by all draws but 0.8 ** 15 = 3.5% of them.
    missed = sum(not any(s.language == "en" and int(s.prompt_id) < 15 for s in draw) for draw in draws)
    assert missed < 0.1 * len(draws)
    assert len({s.prompt_id for draw in draws for s in draw if s.language == "en"}) == 300
    assert len(served._chosen(samples, 0.0)) == 8 + 8 + 3
    unanswered = [
        s.model_copy(update={"response": "", "generator": "endpoint, not answered: HTTP 400"}) for s in samples
    ]
    assert served._chosen(unanswered, 1.0) == []


def test_only_two_tokens_that_are_as_likely_may_be_exchanged(project: Project) -> None:
    """The rows of two tokens are made the same: greedy decoding takes the first of them, and both are right."""
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 6})
    model, tokenizer = load_model(project.paths.model, project.paths.base, "float32")

    def encoded(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    rows = model.get_input_embeddings().weight.data
    (one,) = encoded(generate(model, tokenizer, PROMPTS[:1], 1, 100, "test")[0].text)
    for two in range(one + 1, len(rows)):
        kept, rows[two] = rows[two].clone(), rows[one]
        reply = generate(model, tokenizer, PROMPTS[:1], 6, 100, "test")[0].text
        ids = encoded(reply)
        exchanged = tokenizer.decode([two if i == one else i for i in ids])
        if len(ids) == 6 and one in ids and encoded(exchanged) == [two if i == one else i for i in ids]:
            break
        rows[two] = kept
    assert exchanged != reply
    model.save_pretrained(project.paths.model)
    folder = saved(project)
    loaded = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
    for same in (reply, exchanged):
        assert served._gap(loaded, PROMPTS[0], same, False, 6) < 1e-3
    for text, ended in ((tokenizer.decode(ids[:3]), True), (tokenizer.decode(ids[:3]), False), (PLANTED, True)):
        assert served._gap(loaded, PROMPTS[0], text, ended, 6) > 0.5  # it does not end there, and does not say that
    plant(project, {0: exchanged})
    check(project, folder, share=1.0)


def test_code_that_decodes_otherwise_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluated replies are the model's own, up to the last digit; what would be served is not."""
    other = project.root / "inference.py"
    code = package.INFERENCE.read_text()
    other.write_text(code.replace("output.logits[:, -1].argmax(-1)", "output.logits[:, -1].topk(2).indices[:, 1]"))
    assert other.read_text() != code
    monkeypatch.setattr(package, "INFERENCE", other)
    with pytest.raises(IntegrityError, match=REFUSED):
        check(project, packaged(project))


def test_a_shorter_limit_than_the_evaluations_is_refused(project: Project) -> None:
    project.evaluate = EVALUATE.model_copy(update={"max_new_tokens": 3})
    with pytest.raises(MlcError, match=r"replies of up to 4 tokens, and evaluate\.max_new_tokens is 3"):
        check(project, packaged(project))


def test_an_adapter_on_a_base_of_the_hub_is_asked_with_the_projects_copy(project: Project) -> None:
    adapter(project)
    shutil.rmtree(saved(project))
    file = project.paths.model / "manifest.json"
    content = read_json(file, "")
    write_json(file, content | {"base": content["base"] | {"model": "org/base", "revision": "1" * 40}})
    folder = packaged(project)
    assert not (folder / "artifacts" / "base").exists()
    check(project, folder)
    change_json(project.paths.base / "generation_config.json", eos_token_id=7)
    with pytest.raises(MlcError, match="is not the base that the adapter was trained on"):
        check(project, folder)


def test_audited_is_what_is_served(project: Project) -> None:
    """An audit samples a copy of the version's weights as an evaluation does."""
    adapter(project)
    folder = saved(project)
    weights, base = folder / "artifacts" / "model", folder / "artifacts" / "base"
    subject = project.paths.under_test("candidate")._replace(folder=weights, base=base)
    target = project.root / "audited.jsonl"
    sample_prompt_set(subject, project.paths.prompts / "evaluation.jsonl", LANGUAGES, project.evaluate, target)
    audited = {s.prompt: s.response for s in sample_lines(target)}
    assert answers(folder, list(audited)) == list(audited.values())
    assert {s.model for s in sample_lines(target)} == {weights_id(weights)}
