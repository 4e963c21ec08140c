"""Task accuracy: the right task in each language, the harness's scores, nothing asked twice, and a rule in pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import MlcError
from mlc.evaluation import lm_eval_tasks
from mlc.evaluation.lm_eval_tasks import Answer, assigned, task_metrics, task_of
from mlc.files import write_jsonl
from mlc.gates import tasks as rule_on_tasks
from mlc.gates.tasks import task_results
from mlc.models.weights import weights_id
from mlc.paths import Paths
from mlc.settings import Evaluate, Gate, GateRule, Languages, Tasks, TransformersGenerator

CODES = (
    "eng_Latn", "swh_Latn", "arb_Arab", "arb_Latn", "arz_Arab", "hin_Latn", "kor_Hang", "pbt_Arab", "zho_Hans",
    "zho_Hant", "nob_Latn", "hrv_Latn", "ckb_Arab", "mar_prompt_1",
)  # fmt: skip
BELEBELE = [f"belebele_{code}" for code in CODES]
MMLU = [f"global_mmlu_{code}" for code in ("en", "sw", "zh", "full_ru", "full_am", "sw_stem", "ar")]


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "eng_Latn"), ("sw", "swh_Latn"), ("ar", "arb_Arab"), ("arz", "arz_Arab"), ("ko", "kor_Hang"),
        ("ps", "pbt_Arab"), ("zh", "zho_Hans"), ("zh-Hant", "zho_Hant"), ("no", "nob_Latn"), ("ckb", "ckb_Arab"),
        ("hi", None), ("bs", None), ("mr", None), ("ku", None),
    ],
)  # fmt: skip
def test_a_language_has_its_own_task_in_its_own_script_or_none(tag: str, code: str | None) -> None:
    assert task_of("belebele_{language}", tag, BELEBELE) == (code and f"belebele_{code}")


def test_languages_without_a_task_are_left_out_and_a_task_without_languages_is_an_error() -> None:
    tasks = Tasks(names=("global_mmlu_{language}", "belebele_{language}"), folder=None, limit=None)
    assignment = assigned(tasks, ["en", "sw", "arz", "ru", "hi"], [*MMLU, *BELEBELE])
    assert assignment == {
        "en": ["global_mmlu_en", "belebele_eng_Latn"],
        "sw": ["global_mmlu_sw", "belebele_swh_Latn"],
        "arz": ["belebele_arz_Arab"],
    }
    wrong = Tasks(names=("belebelle_{language}",), folder=None, limit=None)
    with pytest.raises(MlcError, match=r"tasks.names: .* no task 'belebelle_\{language\}' in any of en, sw"):
        assigned(wrong, ["en", "sw"], BELEBELE)


@pytest.mark.parametrize("name", ["belebele", "{language}_{language}"])
def test_a_task_has_one_place_for_its_language(name: str) -> None:
    with pytest.raises(ValueError, match="once, where the harness has the language"):
        Tasks(names=(name,), folder=None, limit=None)


def test_a_rule_on_task_accuracy_is_against_the_base() -> None:
    with pytest.raises(ValueError, match="against: base and a margin"):
        GateRule(metric="task_accuracy", at_least=0.5)


def test_accuracy_counts_every_question_once() -> None:
    one: list[Answer] = [{"question": str(i), "right": i < 6} for i in range(10)]
    two: list[Answer] = [{"question": str(i), "right": i < 1} for i in range(4)]
    metrics = task_metrics({"sw": {"one": one, "two": two}})["sw"]
    assert (metrics["accuracy"]["n"], metrics["accuracy"]["value"]) == (14, 0.5)
    assert (metrics["tasks"]["two"]["n"], metrics["tasks"]["two"]["value"]) == (4, 0.25)
    assert metrics["accuracy"]["low"] < 0.5 < metrics["accuracy"]["high"]


GATE = Gate(
    confidence=0.95, minimum_prompts=40, near_duplicate=0.8, judge=None,
    rules=(
        GateRule(metric="safe_rate", at_least=0.7),
        GateRule(metric="task_accuracy", against="base", margin=0.1),
    ),
)  # fmt: skip


def write_answers(
    paths: Paths, candidate: dict[str, list[bool]], base: dict[str, list[bool]], model: str = "m"
) -> None:
    rows = [
        {"model": model, "role": role, "language": tag, "task": "t", "question": f"{i}", "right": right}
        for role, of in (("base", base), ("candidate", candidate))
        for tag, answers in of.items()
        for i, right in enumerate(answers)
    ]
    write_jsonl(paths.tasks / "answers.jsonl", rows)


def test_the_rule_compares_answers_to_the_same_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_on_tasks, "weights_id", lambda _: "m")
    paths, half = Paths(tmp_path), [True, False] * 100
    with pytest.raises(MlcError, match="run `mlc tasks` again"):
        task_results(GATE, ("en",), paths)
    worse = [False] * 40 + half[40:]
    candidate = {"en": half, "sw": worse, "hi": half[:30], "ar": half[:-1]}
    write_answers(paths, candidate, {"en": half, "sw": half, "hi": half[:30], "ar": half})
    lines = {line.language: line for line in task_results(GATE, ("en", "sw", "hi", "ar", "yo"), paths)}
    assert {tag for tag, line in lines.items() if line.passed} == {"en"}
    assert lines["sw"].value == pytest.approx(-0.1) and lines["sw"].bound < -0.1
    reasons = {tag: str(line.reason) for tag, line in lines.items()}
    assert (
        "at least 40 needed" in reasons["hi"] and "same questions" in reasons["ar"] and "0 questions" in reasons["yo"]
    )
    write_answers(paths, candidate, candidate, model="yesterday's")
    with pytest.raises(MlcError, match="does not hold the answers of the model"):
        task_results(GATE, ("en",), paths)
    assert task_results(GATE.model_copy(update={"rules": GATE.rules[:1]}), ("en",), paths) == []


@pytest.mark.slow  # the harness reads its ten thousand task files: a quarter of a minute
def test_a_local_task_is_asked_of_a_real_model(
    tmp_path: Path, tiny_base: Path, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, own = Paths(tmp_path), tmp_path / "own"
    shutil.copytree(tiny_base, paths.base)
    shutil.copytree(tiny_base, paths.model)
    own.mkdir()
    questions: dict[str, list[dict[str, Any]]] = {
        tag: [
            {"question": f"{word} {i}:", "options": [f"{i} one", f"{i} two", f"no {word}"], "answer": i % 3}
            for i in range(45)
        ]
        for tag, word in (("eng_Latn", "repair a bicycle"), ("swh_Latn", "kutengeneza baiskeli"))
    }
    for tag, rows in questions.items():
        (own / f"{tag}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (own / f"{tag}.yaml").write_text(
            f"task: own_{tag}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {own / f'{tag}.jsonl'}}}}}\n"
            'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{question}}"\n'
            'doc_to_choice: "{{options}}"\ndoc_to_target: "{{answer}}"\n'
            "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        )
    languages = Languages(source="en", served=("en", "sw"), transfer=("hi",))
    evaluate = Evaluate.model_construct(
        generator=TransformersGenerator(name="transformers"), batch_tokens=4096, precision="float32"
    )
    tasks = Tasks(names=("own_{language}",), folder=str(own), limit=None)
    lm_eval_tasks.run(languages, tasks, evaluate, paths)
    answers = [json.loads(line) for line in (paths.tasks / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 2 * 2 * 45
    assert {row["model"] for row in answers} == {weights_id(paths.base)}
    metrics = json.loads((paths.tasks / "metrics.json").read_text())
    assert metrics["base"] == metrics["candidate"] and set(metrics["base"]) == {"en", "sw"}
    for tag, code in (("en", "eng_Latn"), ("sw", "swh_Latn")):
        expected = [row["answer"] == _likeliest(*tiny, row["question"], row["options"]) for row in questions[code]]
        assert metrics["base"][tag]["accuracy"]["value"] == pytest.approx(sum(expected) / 45)
    assert all(line.passed for line in task_results(GATE, ("en", "sw"), paths))

    monkeypatch.setattr(lm_eval_tasks, "_load", lambda *_: pytest.fail("asked again"))
    lm_eval_tasks.run(languages, tasks, evaluate, paths)
    assert json.loads((paths.tasks / "metrics.json").read_text()) == metrics


def _likeliest(model: Any, tokenizer: Any, question: str, options: list[str]) -> int:
    """The option with the greatest log-likelihood after the question and a space."""
    import torch

    scores = []
    for option in options:
        head, whole = (tokenizer(text)["input_ids"] for text in (question, f"{question} {option}"))
        with torch.inference_mode():
            log_probs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        scores.append(sum(float(log_probs[i - 1, whole[i]]) for i in range(len(head), len(whole))))
    return scores.index(max(scores))
