"""How far the judges of a panel agree beyond chance: Cohen's kappa of each two, Fleiss' of all."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa, to_table

from mlc.evaluation.metrics import JudgeAgreement, Kappas


def kappas(samples: pd.DataFrame) -> JudgeAgreement | None:
    """Kappas of the judges whose verdicts stand in ``judge_raw``; None where one judge alone judged."""
    panels = [_panel(raw) for raw in samples["judge_raw"]]
    if not panels or any(panel is None for panel in panels):
        return None
    verdicts = pd.DataFrame([panel for panel in panels if panel is not None])
    if verdicts.isna().any(axis=None):
        return None
    languages = samples["language"].to_numpy()
    return {
        "judges": list(verdicts.columns),
        "all": _row(verdicts),
        "languages": {tag: _row(verdicts[languages == tag]) for tag in dict.fromkeys(languages)},
    }


def _panel(raw: str) -> dict[str, str] | None:
    """Each judge's verdict, by name and, where two share one, place; None if ``raw`` is not a panel's."""
    try:
        votes = json.loads(raw)
        names = [vote["judge"] for vote in votes]
        keys = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, 1)]
        return {key: str(vote["verdict"]) for key, vote in zip(keys, votes, strict=True)}
    except (ValueError, TypeError, KeyError):
        return None


def _row(verdicts: pd.DataFrame) -> Kappas:
    codes = pd.Categorical(verdicts.to_numpy().ravel()).codes.reshape(verdicts.shape)
    table, _ = aggregate_raters(codes)
    pairs = combinations(range(verdicts.shape[1]), 2)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all verdicts are the same
        fleiss = fleiss_kappa(table)
    return {
        "n": len(verdicts),
        "fleiss": _finite(fleiss),
        "cohen": {
            f"{verdicts.columns[a]} / {verdicts.columns[b]}": _finite(_cohen(codes[:, [a, b]])) for a, b in pairs
        },
    }


def _cohen(codes: Any) -> float:
    if (codes == codes[0, 0]).all():
        return math.nan
    counts, _ = to_table(codes, bins=np.arange(codes.max() + 2) - 0.5)
    return float(cohens_kappa(counts, return_results=False))


def _finite(kappa: float) -> float | None:
    return float(kappa) if math.isfinite(kappa) else None
