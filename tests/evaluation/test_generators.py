"""Generators that run elsewhere: an endpoint on loopback, and vLLM, whose interface a small stand-in has."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import serving

from mlc import endpoint
from mlc.embedded import prompts
from mlc.endpoint import EndpointError
from mlc.errors import MlcError
from mlc.evaluation import sampling
from mlc.evaluation.generators import make_generator
from mlc.models.weights import weights_id
from mlc.paths import Paths
from mlc.settings import EndpointGenerator, Evaluate, VllmGenerator, load_settings

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
EVALUATE, LANGUAGES = SETTINGS.evaluate.model_copy(update={"max_new_tokens": 6}), SETTINGS.languages
ROWS = prompts.rows("evaluation")
PAIRS = [(row, tag) for row in [*ROWS[:3], *(r for r in ROWS if r.references)][:6] for tag in ("en", "hi")]


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    paths = Paths(tmp_path)
    shutil.copytree(tiny_base, paths.base)
    return paths


def by_endpoint(url: str, base_model: str | None) -> Evaluate:
    generator = EndpointGenerator(
        name="endpoint", base_url=url, base_model=base_model, candidate_model=None, key_variable=None,
        concurrency=4, timeout=10.0, attempts=2,
    )  # fmt: skip
    return EVALUATE.model_copy(update={"generator": generator})


def test_an_endpoints_model_is_evaluated_under_its_own_name(paths: Paths) -> None:
    with serving() as server:
        samples = sampling.sample(PAIRS, by_endpoint(server.url, "some-model"), paths.under_test("base"), LANGUAGES)
        host = server.url.split("/")[2]
        assert [s.response for s in samples] == [row.prompts[tag].upper() for row, tag in PAIRS]
        assert {s.model for s in samples} == {f"endpoint:{host}:some-model"}
        assert {s.generator for s in samples} == {f"endpoint {host}, temperature 0, seed 0, system_fingerprint f1"}
        assert {s.tokens for s in samples} == {2} and {s.reference_nll for s in samples} == {None}
        sent = {(b["model"], b["temperature"], b["seed"], b["max_tokens"]) for b in server.bodies}
        assert sent == {("some-model", 0, 0, 6)}
        sampling.sample(PAIRS, by_endpoint(server.url, "some-model"), paths.under_test("base"), LANGUAGES)
        assert len(server.bodies) == len(PAIRS)  # nothing is asked for twice


def test_weights_served_under_their_id_are_the_weights(paths: Paths) -> None:
    with serving(serves=weights_id(paths.base)) as server:
        samples = sampling.sample(PAIRS, by_endpoint(server.url, None), paths.under_test("base"), LANGUAGES)
    assert {s.model for s in samples} == {weights_id(paths.base)}


def test_other_weights_than_those_here_are_never_taken_for_them(paths: Paths) -> None:
    wanted = weights_id(paths.base)
    for serves in ("yesterdays", None):  # refuses the name; or answers to any, and says by what
        with serving(serves) as server:
            command = f"vllm serve FOLDER --served-model-name {wanted}"
            with pytest.raises(EndpointError, match=command):
                sampling.sample(PAIRS, by_endpoint(server.url, None), paths.under_test("base"), LANGUAGES)


def test_fields_of_the_request_can_be_set_and_are_named_in_the_lines(paths: Paths) -> None:
    with serving(unknown_field="max_tokens") as server:
        evaluate = by_endpoint(server.url, "m")
        with pytest.raises(EndpointError, match="Unsupported parameter: max_tokens"):
            sampling.sample(PAIRS, evaluate, paths.under_test("base"), LANGUAGES)
        body = {"max_tokens": None, "max_completion_tokens": 6}
        generator = evaluate.generator.model_copy(update={"body": body})
        samples = sampling.sample(
            PAIRS, evaluate.model_copy(update={"generator": generator}), paths.under_test("base"), LANGUAGES
        )
    assert {s.verdict for s in samples} and all(s.response for s in samples)
    assert all('"max_completion_tokens": 6' in str(s.generator) for s in samples)
    assert server.bodies[-1]["max_completion_tokens"] == 6 and "max_tokens" not in server.bodies[-1]


def test_what_an_endpoint_will_not_answer_is_invalid_and_says_why(paths: Paths) -> None:
    row = ROWS[0].model_copy(update={"prompts": {"en": "filtered request", "hi": "fine"}})
    with serving() as server:
        filtered, fine = sampling.sample(
            [(row, "en"), (row, "hi")], by_endpoint(server.url, "m"), paths.under_test("base"), LANGUAGES
        )
    assert (filtered.response, filtered.verdict) == ("", "invalid")
    assert filtered.generator is not None and "not answered: HTTP 400" in filtered.generator
    assert fine.response == "FINE"


def test_an_endpoint_that_fails_leaves_what_was_answered(paths: Paths) -> None:
    row = ROWS[0].model_copy(update={"prompts": {"en": "down", "hi": "fine"}})
    with serving() as server:
        settings = by_endpoint(server.url, "m")
        with pytest.raises(EndpointError, match="gave up after 2 attempts"):
            sampling.sample([(row, "hi"), (row, "en")], settings, paths.under_test("base"), LANGUAGES)
        assert (paths.partial("base") / "replies.jsonl").read_text().count("FINE") == 1


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("done", True),
        ("cut off by length", False),
        ("cut off by filter", False),
        ("cut off at the limit", False),  # the endpoint says no more than that it made two tokens of two
        ("cut off, unknown", None),
    ],
)
def test_an_endpoints_reply_is_finished_where_it_says_so(paths: Paths, text: str, finished: bool | None) -> None:
    row = ROWS[0].model_copy(update={"prompts": {"en": text}})
    with serving() as server:
        evaluate = by_endpoint(server.url, "m").model_copy(update={"max_new_tokens": 2})
        (sample,) = sampling.sample([(row, "en")], evaluate, paths.under_test("base"), LANGUAGES)
    assert sample.finished is finished


VLLM = '''
"""What mlc uses of vLLM's interface, over transformers."""
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM

from mlc.models.inference import greedy


class SamplingParams(SimpleNamespace):
    pass


class LLM:
    made = []

    def __init__(self, **settings):
        self.settings = settings
        self.model = AutoModelForCausalLM.from_pretrained(settings["model"]).eval()
        LLM.made.append(self)

    def generate(self, prompts, parameters, use_tqdm):
        assert parameters.temperature == 0 and not use_tqdm
        return [self.one(prompt["prompt_token_ids"], parameters) for prompt in prompts]

    @torch.inference_mode()
    def one(self, ids, parameters):
        known = None
        if getattr(parameters, "prompt_logprobs", None) is not None:
            log_probs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            known = [None, *({t: SimpleNamespace(logprob=log_probs[i, t].item())} for i, t in enumerate(ids[1:]))]
        (new,) = greedy(self.model, [ids], parameters.max_tokens, parameters.stop_token_ids, 0)
        reason = "stop" if new[-1] in parameters.stop_token_ids else "length"
        made = SimpleNamespace(token_ids=tuple(new), finish_reason=reason)
        return SimpleNamespace(outputs=[made], prompt_logprobs=known)
'''


@pytest.fixture
def vllm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package ``vllm`` that can be imported, of version 0.0: the real one needs a GPU and its own torch."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "vllm").mkdir()
    (folder / "vllm" / "__init__.py").write_text(VLLM)
    (folder / "vllm-0.0.dist-info").mkdir()
    (folder / "vllm-0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.0\n")
    monkeypatch.syspath_prepend(str(folder))
    import vllm as package

    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]


BY_VLLM = EVALUATE.model_copy(update={"generator": VllmGenerator(name="vllm", gpus=1, gpu_memory=0.8)})


def test_vllm_gives_what_transformers_gives(paths: Paths, vllm: Any) -> None:
    one = [s.model_dump() for s in sampling.sample(PAIRS, EVALUATE, paths.under_test("base"), LANGUAGES)]
    two = [s.model_dump() for s in sampling.sample(PAIRS, BY_VLLM, paths.under_test("base"), LANGUAGES)]
    assert any(sample["reference_nll"] for sample in two)
    assert {sample["finished"] for sample in two} == {False}  # random weights do not end within six tokens
    for a, b in zip(one, two, strict=True):
        nll = b.pop("reference_nll")
        assert a.pop("reference_nll") == (nll and pytest.approx(nll, rel=1e-4))
        del a["seconds"], b["seconds"], a["generator"]
        assert b.pop("generator") == "vllm 0.0, greedy, float32"
        assert a == b
    (engine,) = vllm.LLM.made
    settings = engine.settings
    assert (settings["tensor_parallel_size"], settings["gpu_memory_utilization"], settings["dtype"]) == (
        1, 0.8, "float32",
    )  # fmt: skip


def test_vllm_runs_the_adapter_that_transformers_runs(paths: Paths, vllm: Any) -> None:
    """Merged in both, and with the same stop tokens, also where the base's settings name another end."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(paths.base)
    tokenizer = AutoTokenizer.from_pretrained(paths.base)
    base.generation_config.eos_token_id = tokenizer.pad_token_id
    base.save_pretrained(paths.base)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, lora).save_pretrained(paths.model)
    tokenizer.save_pretrained(paths.model)
    one = sampling.sample(PAIRS, EVALUATE, paths.under_test("candidate"), LANGUAGES)
    two = sampling.sample(PAIRS, BY_VLLM, paths.under_test("candidate"), LANGUAGES)
    assert {s.model for s in two} == {weights_id(paths.model)}
    assert [(s.response, s.tokens) for s in one] == [(s.response, s.tokens) for s in two]
    (engine,) = vllm.LLM.made
    assert engine.settings["tokenizer"] == str(paths.model)


def test_without_vllm_it_is_said_how_to_get_it(paths: Paths) -> None:
    with pytest.raises(MlcError, match=r'pip install "mlc-pipeline\[vllm\]"'):
        make_generator(BY_VLLM, paths.under_test("base"))
