"""Task accuracy by lm-evaluation-harness (the extra ``harness``): is the model still as able as its base, everywhere?

Multiple-choice tasks, one per language, such as Belebele's and Global-MMLU's. Every question's outcome is kept in
``artifacts/tasks/answers.jsonl``, so that the candidate is compared with the base on the same questions; what one model
answered to one task is also kept in ``artifacts/partial/tasks``, and neither a kill nor a new candidate asks it again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import langcodes

from mlc.errors import MlcError
from mlc.evaluation.metrics import Estimate
from mlc.evaluation.statistics import proportion
from mlc.files import read_json, sha256_json, write_json, write_jsonl
from mlc.models.weights import weights_id
from mlc.paths import ROLES, Paths, Role
from mlc.settings import LANGUAGE, Evaluate, Languages, Tasks
from mlc.text import percent

# FLORES-200 codes that langcodes does not bring together with the tag.
FLORES = {"ko": "kor_Hang", "ps": "pbt_Arab"}
NEAREST = 1  # langcodes' distance: Norwegian and Bokmål, but no other language, dialect or script
SKIPPED = "params.yaml names no tasks"


class Answer(TypedDict):
    """A question, and whether the model's answer to it is right."""

    question: str
    right: bool


class AnswerLine(Answer):
    """A line of ``answers.jsonl``: an answer, and whose it is to which task."""

    model: str
    role: Role
    language: str
    task: str


class Accuracies(TypedDict):
    """The accuracy in one language, of all questions together and of each task's."""

    accuracy: Estimate
    tasks: dict[str, Estimate]


def task_of(template: str, language: str, names: Collection[str]) -> str | None:
    """The task that ``template`` names for a language, whose tag or code stands where ``{language}`` does.

    >>> task_of("belebele_{language}", "sw", ["belebele_swh_Latn", "belebele_hin_Latn"])
    'belebele_swh_Latn'
    """
    before, after = (re.escape(part) for part in template.split(LANGUAGE))
    matches = (re.fullmatch(f"{before}(.+){after}", name) for name in names)
    codes = {match[1].replace("_", "-"): match[0] for match in matches if match}
    special = FLORES.get(language, "").replace("_", "-")
    if special in codes:
        return codes[special]
    known = [code for code in codes if langcodes.tag_is_valid(code)]
    closest, _ = langcodes.closest_match(language, known, max_distance=NEAREST)
    return codes.get(closest)


def assigned(tasks: Tasks, languages: Sequence[str], names: Collection[str]) -> dict[str, list[str]]:
    """The tasks of each language that has any.

    Raises:
        MlcError: a template names no task in any of the languages.
    """
    tasks_by_language: dict[str, list[str]] = {tag: [] for tag in languages}
    for template in tasks.names:
        of = {tag: task for tag in languages if (task := task_of(template, tag, names))}
        if not of:
            raise MlcError(
                f"tasks.names: lm-evaluation-harness has no task {template!r} in any of {', '.join(languages)}"
                " (`lm_eval ls tasks` lists them; tasks.folder adds your own)"
            )
        for tag, task in of.items():
            tasks_by_language[tag].append(task)
    return {tag: of for tag, of in tasks_by_language.items() if of}


def _manager(tasks: Tasks) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise MlcError('tasks: lm-evaluation-harness is not installed: pip install "mlc-pipeline[harness]"') from None
    return TaskManager(include_path=tasks.folder)


def _ask(task: str, model: Any, manager: Any, tasks: Tasks) -> list[Answer]:
    """``question`` and whether the model's answer is ``right``, of every question of a task or of a group of tasks."""
    from lm_eval import simple_evaluate

    result = simple_evaluate(model, tasks=[task], task_manager=manager, limit=tasks.limit, bootstrap_iters=0)
    answers: list[Answer] = []
    for name, samples in result["samples"].items():
        for sample in samples:
            if sample.get("acc") not in (0, 1):
                raise MlcError(f"tasks.names: {name} has no accuracy per question (acc): only multiple choice will do")
            answers.append(
                {"question": f"{name} {sample['doc_id']} {sample['doc_hash']}", "right": bool(sample["acc"])}
            )
    return sorted(answers, key=lambda answer: answer["question"])


def answers(
    role: Role, weights: str, todo: Iterable[str], manager: Any, tasks: Tasks, evaluate: Evaluate, paths: Paths
) -> dict[str, list[Answer]]:
    """What a model answers to each task; the model is loaded only if it was not asked before.

    Raises:
        MlcError: a task is not multiple choice.
    """
    from lm_eval import __version__

    model = None
    answers_by_task: dict[str, list[Answer]] = {}
    for task in todo:
        definition = {key: str(value) for key, value in manager.task_index[task].cfg.items()}
        identity = sha256_json([weights, evaluate.precision, __version__, task, definition, tasks.limit])
        kept = paths.partial("tasks") / f"{identity}.json"
        if not kept.exists():
            model = model or _load(role, evaluate, paths)
            print(f"{role}: {task}")
            write_json(kept, {"task": task, "answers": _ask(task, model, manager, tasks)})
        answers_by_task[task] = read_json(kept, "mlc tasks")["answers"]
    return answers_by_task


def _weights_id(role: Role, paths: Paths) -> str:
    if not paths.weights(role).is_dir():
        raise MlcError(f"{paths.weights(role)} does not exist: run `mlc base`, `mlc train` and `mlc select` first")
    return weights_id(paths.weights(role))


def _load(role: Role, evaluate: Evaluate, paths: Paths) -> Any:
    from lm_eval.models.huggingface import HFLM

    from mlc.models.loading import load_model

    model, tokenizer = load_model(paths.weights(role), paths.base, evaluate.precision)
    longest = getattr(model.config, "max_position_embeddings", 2048)
    # As many questions at once as the batches of generation have room for, were all as long as the model can read.
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=max(1, evaluate.batch_tokens // longest))


def task_metrics(per_language: Mapping[str, Mapping[str, Sequence[Answer]]]) -> dict[str, Accuracies]:
    """Accuracy in each language, of all its tasks' questions together and of each task, with exact intervals."""
    metrics: dict[str, Accuracies] = {}
    for tag, by_task in per_language.items():
        every = [answer for answers in by_task.values() for answer in answers]
        metrics[tag] = {"accuracy": _accuracy(every), "tasks": {task: _accuracy(of) for task, of in by_task.items()}}
    return metrics


def _accuracy(answers: Sequence[Answer]) -> Estimate:
    return proportion(sum(answer["right"] for answer in answers), len(answers))


def run(languages: Languages, tasks: Tasks | None, evaluate: Evaluate, paths: Paths) -> None:
    """Asks base and candidate; writes ``answers.jsonl`` and ``metrics.json`` to ``artifacts/tasks``.

    Raises:
        MlcError: the extra or a model is missing, or a task does not exist or is not multiple choice.
    """
    if tasks is None:
        write_jsonl(paths.tasks / "answers.jsonl", [])
        write_json(paths.tasks / "metrics.json", {"skipped": SKIPPED})
        print(f"no task accuracy: {SKIPPED}")
        return
    manager = _manager(tasks)
    of_language = assigned(tasks, languages.all, manager.all_tasks)
    lines: list[AnswerLine] = []
    metrics: dict[str, dict[str, Accuracies]] = {}
    for role in ROLES:
        todo = dict.fromkeys(task for of in of_language.values() for task in of)
        weights = _weights_id(role, paths)
        answers_by_task = answers(role, weights, todo, manager, tasks, evaluate, paths)
        per_language = {tag: {task: answers_by_task[task] for task in of} for tag, of in of_language.items()}
        metrics[role] = task_metrics(per_language)
        lines += [
            {"model": weights, "role": role, "language": tag, "task": task, **answer}
            for tag, of in per_language.items()
            for task, task_answers in of.items()
            for answer in task_answers
        ]
        summary = ", ".join(
            f"{tag} {percent(accuracies['accuracy']['value'])}" for tag, accuracies in metrics[role].items()
        )
        print(f"{role}: task accuracy {summary}")
    without = [tag for tag in languages.all if tag not in of_language]
    if without:
        print(f"no task in {', '.join(without)}")
    write_jsonl(paths.tasks / "answers.jsonl", lines)
    write_json(paths.tasks / "metrics.json", metrics)
