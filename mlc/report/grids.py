"""Charts of cells: language by category, and how often two languages have the same outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from markupsafe import Markup

from mlc.evaluation.metrics import Metrics
from mlc.evaluation.rates import hits
from mlc.report.drawing import HEAT, PAPER, label, svg
from mlc.text import RateName, interval, on_page, percent


def _cells(name: str, title: str, rows: list[dict[str, Any]], across: Sequence[str], down: Sequence[str]) -> Markup:
    """A grid of shares; ``bad`` from 0 to 1 is the shade, ``shown`` the text."""
    cells = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("across:N", sort=list(across), title=None, axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=130)),
        y=alt.Y("down:N", sort=list(down), title=None),
    )
    shade = alt.Color("bad:Q", scale=alt.Scale(domain=[0, 1], range=HEAT), legend=None)
    ink = alt.condition("datum.bad > 0.85", alt.value("#ffffff"), alt.value("#000000"))
    chart = alt.layer(
        cells.mark_rect(stroke=PAPER, strokeWidth=2, cornerRadius=3).encode(color=shade, description="about:N"),
        cells.mark_text(aria=False).encode(text="shown:N", color=ink),
    ).properties(width=alt.Step(46), height=alt.Step(26))
    return svg(chart, name, title)


def categories(
    name: str, title: str, rate: RateName, languages: Sequence[str], metrics: Mapping[str, Metrics]
) -> Markup | None:
    """The candidate's rate in every language and category, the base's in each description; None if there is none."""
    rows: list[dict[str, Any]] = []
    for tag in languages:
        before = metrics["base"].languages.get(tag, {}).get("categories", {})
        for category, rates in metrics["candidate"].languages.get(tag, {}).get("categories", {}).items():
            if rate not in rates:
                continue
            now, then = rates[rate], before.get(category, {}).get(rate)
            value, category_label = now["value"], on_page(category)
            rows.append(
                {
                    "down": label(tag),
                    "across": category_label,
                    "bad": value if rate == "over_refusal" else 1 - value,
                    "shown": f"{100 * value:.0f}",
                    "about": f"{label(tag)}, {category_label}: {percent(value)}, interval {interval(now)}, "
                    f"{now['n']} prompts; base {percent(then['value'] if then else None)}",
                }
            )
    columns = sorted({row["across"] for row in rows})
    return _cells(name, title, rows, columns, [label(tag) for tag in languages]) if rows else None


def agreement(name: str, title: str, samples: pd.DataFrame, rate: str, languages: Sequence[str]) -> Markup | None:
    """For each two languages the share of prompts, asked in both, with the same outcome; None for one language."""
    matrix = hits(samples, rate).reindex(columns=list(languages))
    rows = []
    for down in languages:
        for across in languages:
            both = matrix[[down, across]].dropna().to_numpy() if down != across else np.empty((0, 2))
            if not len(both):
                continue
            share = float((both[:, 0] == both[:, 1]).mean())
            about = f"{label(down)} and {label(across)}: the same outcome on {percent(share)} of {len(both)} prompts"
            rows.append(
                {"down": label(down), "across": across, "bad": 1 - share, "shown": f"{100 * share:.0f}", "about": about}
            )
    return _cells(name, title, rows, languages, [label(tag) for tag in languages]) if rows else None
