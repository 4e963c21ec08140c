"""The page's charts, section by section, from the files of the other stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.files import read_json
from mlc.gates.verdict import Verdict
from mlc.paths import ROLES, Paths, Role
from mlc.report import grids, lines, rates
from mlc.settings import HIGHER_IS_BETTER, Languages
from mlc.text import RateName, heading

RATES: tuple[RateName, ...] = ("safe_rate", "over_refusal")
MEASURES = {"served": ("mean", "worst", "gap", "variance"), "transfer": ("mean", "worst")}
MLC_TERMS = {"mlc/loss": "weight", "mlc/refusal": "refusal_weight", "mlc/retain": "retain_weight"}  # and its weight


def groups(languages: Languages, metrics: Mapping[str, Metrics], verdict: Verdict) -> list[dict[str, Any]]:
    """Served and transfer languages, each with its charts; the limits are the served languages' only."""
    thresholds = {result.rule: result.threshold for result in verdict.rules}
    language_groups = []
    for name, title, tags in (
        ("served", "Served languages", languages.served),
        ("transfer", "Transfer languages: never trained on, not gated", languages.transfer),
    ):
        if not tags:
            continue
        estimates = {
            rate: {
                role: {tag: of.languages[tag][rate] for tag in tags if rate in of.languages.get(tag, {})}
                for role, of in metrics.items()
            }
            for rate in RATES
        }
        drawn = [
            rates.rate_chart(
                f"{name}-{rate}",
                heading(rate),
                tags,
                estimates[rate],
                thresholds.get(rate) if name == "served" else None,
                "higher" if rate in HIGHER_IS_BETTER else "lower",
            )
            for rate in RATES
        ]
        if name == "served":
            drawn.append(rates.trade_off("trade-off", tags, estimates["safe_rate"], estimates["over_refusal"]))
        language_groups.append(
            {"name": name, "title": title, "languages": tags, "charts": drawn, "measures": MEASURES[name]}
        )
    return language_groups


def _drawn(*charts: Markup | None) -> list[Markup]:
    return [chart for chart in charts if chart is not None]


def categories(languages: Languages, metrics: Mapping[str, Metrics]) -> list[Markup]:
    return _drawn(
        grids.categories("categories-harmful", "Safe rate per category", "safe_rate", languages.all, metrics),
        grids.categories("categories-benign", "Over-refusal per category", "over_refusal", languages.all, metrics),
    )


def agreement(languages: Languages, samples: Mapping[Role, pd.DataFrame]) -> dict[str, list[Markup]]:
    """Per intent, the agreement between languages of base and candidate."""
    return {
        intent: _drawn(
            *(
                grids.agreement(
                    f"agreement-{intent}-{role}",
                    f"{role}: languages that agree on {intent} prompts",
                    samples[role],
                    rate,
                    languages.served,
                )
                for role in ROLES
            )
        )
        for intent, rate in (("harmful", "safe_rate"), ("benign", "over_refusal"))
    }


def training_log(paths: Paths) -> pd.DataFrame:
    """The training log's numbers by step; what is not a finite number is missing.

    Raises:
        MlcError: it is missing or no table.
    """
    path = paths.training / "log.csv"
    try:
        log = pd.read_csv(path)
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: run `mlc train` first") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MlcError(f"{path} is not a table ({error}): run `mlc train` again") from None
    if "step" not in log:
        raise MlcError(f"{path} has no column 'step': run `mlc train` again")
    numbers: pd.DataFrame = log.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    return numbers.dropna(subset="step")


def curves(log: pd.DataFrame, parameters: Mapping[str, Any]) -> dict[str, list[Markup]]:
    """The paradigm's loss and the objective's terms apart, and everything else that was logged.

    The paradigm's loss is what the weighted terms leave of the whole.
    """
    objective = parameters.get("train", {}).get("objective", {})
    paradigm = str(parameters.get("train", {}).get("paradigm", "paradigm")).upper()
    terms = [column for column in MLC_TERMS if column in log]
    main: list[Markup | None] = []
    if "loss" in log:
        added = sum((log[term].fillna(0) * objective.get(MLC_TERMS[term], 0) for term in terms), start=log["loss"] * 0)
        apart = log.assign(**{f"{paradigm} loss": log["loss"] - added})
        main.append(lines.curves("curve-paradigm", f"{paradigm} loss", apart, [f"{paradigm} loss"]))
        main.append(lines.curves("curve-total", "Loss in all", log, ["loss"]))
    if terms:
        main.insert(1, lines.curves("curve-mlc", "MLC terms, without their weights", log, terms))
    others = [column for column in log.columns if column not in {"step", "loss", *terms}]
    return {
        "main": _drawn(*main),
        "others": _drawn(*(lines.curves(f"curve{i}", column, log, [column]) for i, column in enumerate(others))),
    }


def representations(paths: Paths) -> dict[str, Any]:
    """``spectra`` and ``maps`` to look at, ``rows`` of a table, or why there are none: ``skipped``."""
    path = paths.diagnostics / "representations.json"
    if not path.exists():
        return {"skipped": "they were not measured (`mlc diagnose`)"}
    measured = read_json(path, "mlc diagnose")
    if "skipped" in measured:
        return {"skipped": measured["skipped"]}
    layers = {layer: {role: measured[role][layer] for role in ROLES} for layer in measured["base"]}
    names = {layer: "last layer" if layer == "layer_-1" else layer.replace("_", " ") for layer in layers}
    points = pd.read_csv(paths.diagnostics / "map.csv")
    return {
        "spectra": [
            lines.spectrum(f"spectrum{i}", names[layer], {role: of[role]["singular_spectrum"] for role in ROLES})
            for i, (layer, of) in enumerate(layers.items())
        ],
        "maps": [lines.representation_map(f"map-{by}", points, by) for by in ("language", "intent")],
        "rows": [{"layer": names[layer], "role": role, **of[role]} for layer, of in layers.items() for role in ROLES],
    }
