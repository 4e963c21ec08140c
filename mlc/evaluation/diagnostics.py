"""What training did to the representations: did the languages of a prompt come together, or did everything?

For the base and the candidate, on the evaluation prompts, at the last prompt token: the objective's layer and the last
one. Writes ``artifacts/diagnostics/representations.json``, and a map of some prompts in two dimensions as CSV. While
the models are at hand, ``choices.json`` says how well they choose the right of four replies.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from mlc.evaluation.multiple_choice import Choices, accuracy, questions
from mlc.files import replacing, write_json
from mlc.models.generation import batches_by_tokens, head_ids, padded
from mlc.models.inference import pad_token
from mlc.models.loading import load_model
from mlc.models.representations import encode
from mlc.paths import ROLES, Paths, Role
from mlc.progress import track
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Evaluate, Languages
from mlc.text import percent

States = npt.NDArray[np.float64]  # prompts x languages x dimensions
PROMPTS = 160  # looked at, evenly spread over the set: seconds for a small model, a minute for a large one
MAPPED = 60  # of them on the map


class Separation(TypedDict):
    """AUC of harmful from benign prompts over the languages, by their own directions and by the source language's."""

    mean: float
    worst: float
    by_source_mean: float
    by_source_worst: float


class CollapseMetrics(TypedDict):
    """The diagnostics of one model and layer; ``singular_spectrum`` by number, from 1."""

    singular_spectrum: dict[str, float]
    cross_language_cosine: float
    different_prompt_cosine: float
    separation: Separation


def represent(
    rows: Sequence[PromptRow], tags: Sequence[str], role: Role, layer: int, model: Any, tokens: int
) -> States:
    """Hidden states of every row in every language at one layer; ``model`` is the model with its tokenizer."""
    network, tokenizer = model
    encoded = [head_ids(tokenizer, row.prompts[tag]) for row in rows for tag in tags]
    states: list[Any] = [None] * len(encoded)
    batches = list(batches_by_tokens([len(ids) for ids in encoded], tokens))
    with torch.no_grad():
        for batch in track(batches, f"{role} representations, layer {layer}"):
            ids, mask = padded([encoded[i] for i in batch], pad_token(tokenizer), "left")
            hidden, _ = encode(network, ids.to(network.device), mask.to(network.device), layer)
            for i, state in zip(batch, hidden.float().cpu().numpy(), strict=True):
                states[i] = state
    return np.asarray(states, dtype=np.float64).reshape(len(rows), len(tags), -1)


def _unit(states: States) -> States:
    return np.asarray(states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), 1e-12))


def spectrum(states: States) -> list[float]:
    """Singular values of each prompt's languages, normalised to a sum of one, averaged over prompts.

    One language among K that all agree is 1, 0, ...; K unrelated ones are 1/K each. What the MLC objective sharpens.
    """
    values = np.linalg.svd(_unit(states), compute_uv=False)
    return [float(x) for x in (values / values.sum(axis=1, keepdims=True)).mean(axis=0)]


def cross_language_cosine(states: States) -> float:
    """Mean cosine between two languages of the same prompt."""
    unit, k = _unit(states), states.shape[1]
    return float(((np.linalg.norm(unit.sum(axis=1), axis=-1) ** 2 - k) / (k * (k - 1))).mean())


def different_prompt_cosine(states: States) -> float:
    """Mean cosine between two *different* prompts in one language: at 1, everything has collapsed into one point."""
    unit, n = _unit(states), len(states)
    return float(((np.linalg.norm(unit.sum(axis=0), axis=-1) ** 2 - n) / (n * (n - 1))).mean())


def separation(states: States, harmful: npt.NDArray[np.bool_], source: int) -> Separation:
    """How well harmful and benign prompts are told apart along the difference of their means: AUC, 0.5 is not at all.

    The direction is found on every second prompt of either kind and measured on the others: in many dimensions any two
    groups are apart along their own. ``mean`` and ``worst`` language by its own direction; ``by_source`` ones by the
    source language's, which says whether the languages share it.
    """
    number = np.where(harmful, harmful.cumsum(), (~harmful).cumsum())
    finding = number % 2 == 1
    group = states[finding]
    means = [group[harmful[finding] == kind].mean(axis=0) for kind in (True, False)]
    directions = means[0] - means[1]  # languages x dimensions

    def auc(language: int, direction: int) -> float:
        return float(roc_auc_score(harmful[~finding], states[~finding, language] @ directions[direction]))

    own = [auc(language, language) for language in range(states.shape[1])]
    by_source = [auc(language, source) for language in range(states.shape[1])]
    return {
        "mean": float(np.mean(own)),
        "worst": min(own),
        "by_source_mean": float(np.mean(by_source)),
        "by_source_worst": min(by_source),
    }


def collapse_metrics(states: States, harmful: npt.NDArray[np.bool_], source: int) -> CollapseMetrics:
    """All diagnostics of one model and layer."""
    return {
        "singular_spectrum": {str(i): value for i, value in enumerate(spectrum(states), 1)},
        "cross_language_cosine": cross_language_cosine(states),
        "different_prompt_cosine": different_prompt_cosine(states),
        "separation": separation(states, harmful, source),
    }


def _chosen(rows: Sequence[PromptRow], tags: Sequence[str], most: int) -> list[PromptRow]:
    """Rows that have every language, evenly spread and half of them harmful as far as there are."""
    chosen: list[PromptRow] = []
    for intent in ("harmful", "benign"):
        whole = [row for row in rows if row.intent == intent and set(tags) <= row.prompts.keys()]
        step = max(1.0, 2 * len(whole) / most)
        chosen += [whole[int(i * step)] for i in range(min(len(whole), most // 2))]
    return chosen


def _unfit(harmful: npt.NDArray[np.bool_], tags: Sequence[str]) -> str | None:
    """Why there is nothing to compare, if so."""
    fewest = min(int(harmful.sum()), int((~harmful).sum()))
    if len(tags) < 2:
        return "one served language has nothing to be compared with"
    if fewest < 4:
        return f"{fewest} harmful, or benign, evaluation prompts are there in every served language, 4 are needed"
    return None


def run(languages: Languages, evaluate: Evaluate, layer: int, paths: Paths) -> None:
    """Measures both models; writes ``representations.json`` {role: {layer: ...}}, ``map.csv`` and ``choices.json``.

    Nothing is decided by them, so what cannot be measured stops nothing: ``skipped`` then says why.

    Raises:
        MlcError: a model or the prompts are missing.
    """
    rows = read_prompts(paths.prompts / f"{evaluate.prompts}.jsonl", made_by="mlc validate")
    tags = languages.served
    choice_questions = questions(rows, languages.all)
    rows = _chosen(rows, tags, PROMPTS)
    harmful = np.array([row.intent == "harmful" for row in rows], dtype=bool)
    states: dict[Role, dict[int, States]] = {}
    problem = _unfit(harmful, tags)
    chosen: dict[str, Choices] = {}
    for role in ROLES:
        model = load_model(paths.weights(role), paths.base, evaluate.precision)
        if choice_questions:
            chosen[role] = accuracy(choice_questions, *model, tags, evaluate.batch_tokens)
        if problem is not None:
            continue
        layers = sorted({layer, -1})
        states[role] = {at: represent(rows, tags, role, at, model, evaluate.batch_tokens) for at in layers}
        del model
        if not all(np.isfinite(layer_states).all() for layer_states in states[role].values()):
            problem = f"the {role}'s representations are not finite numbers"
    write_json(
        paths.diagnostics / "choices.json", chosen or {"skipped": "the prompt set has too few reference replies"}
    )
    for name, choices in chosen.items():
        if "served" in choices:
            print(f"{name}: chooses the right of four replies {percent(choices['served']['value'])} of the time")
    _write_map(rows, tags, {} if problem else {role: by_layer[layer] for role, by_layer in states.items()}, paths)
    if problem is not None:
        write_json(paths.diagnostics / "representations.json", {"skipped": problem})
        print(f"not measured: {problem}")
        return
    source = tags.index(languages.source)
    measured: dict[str, dict[str, CollapseMetrics]] = {
        role: {f"layer_{at}": collapse_metrics(layer_states, harmful, source) for at, layer_states in by_layer.items()}
        for role, by_layer in states.items()
    }
    write_json(paths.diagnostics / "representations.json", measured)
    for name, by_layer in measured.items():
        metrics = by_layer[f"layer_{layer}"]
        print(
            f"{name}, layer {layer}: cosine between languages {metrics['cross_language_cosine']:.3f}, between different"
            f" prompts {metrics['different_prompt_cosine']:.3f}; harmful from benign, worst language"
            f" {metrics['separation']['worst']:.3f}"
        )


def _write_map(rows: Sequence[PromptRow], tags: Sequence[str], states: dict[Role, States], paths: Paths) -> None:
    """Some prompts in the two directions in which the base's and the candidate's states vary most, on one map."""
    some = np.unique(np.linspace(0, len(rows) - 1, MAPPED).astype(int)) if states else np.array([], int)
    picked = {role: s[some].reshape(len(some) * len(tags), -1) for role, s in states.items()}
    plane = PCA(n_components=2, svd_solver="full")
    if picked:
        plane.fit(np.concatenate(list(picked.values())))
    with replacing(paths.diagnostics / "map.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["role", "id", "intent", "language", "x", "y"])
        for role, points in picked.items():
            names = [(rows[i].id, rows[i].intent, tag) for i in some for tag in tags]
            for name, (x, y) in zip(names, plane.transform(points), strict=True):
                writer.writerow([role, *name, f"{x:.5g}", f"{y:.5g}"])
