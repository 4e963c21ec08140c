"""Charts over steps and dimensions: training's curves, the singular spectrum, the map of representations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
from markupsafe import Markup

from mlc.report.drawing import ROLE_COLOURS, label, role_scales, svg

# Okabe and Ito's colours, dark enough to be seen on white and light enough on black.
DISTINCT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8c6bb1", "#7f7f7f"]


def curves(name: str, title: str, log: pd.DataFrame, columns: Sequence[str]) -> Markup | None:
    """Columns of the training log over its steps, a line each with its own dashes; None if they hold no number."""
    known = log.melt("step", list(columns), "series", "value").dropna()
    if known.empty:
        return None
    rows = known.assign(about=[f"step {s:g}, {c}: {v:.4g}" for s, c, v in known.itertuples(index=False)])
    several = len(columns) > 1
    encoding: dict[str, Any] = {}
    if several:
        encoding = {
            "color": alt.Color("series:N", sort=list(columns), scale=alt.Scale(range=DISTINCT)),
            "strokeDash": alt.StrokeDash("series:N", sort=list(columns)),
        }
    lines = alt.Chart(alt.Data(values=rows.to_dict("records"))).encode(
        x=alt.X("step:Q", title="step"), y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5))
    )
    colour = {} if several else {"color": ROLE_COLOURS["candidate"]}
    points = lines.mark_point(filled=True, size=18, opacity=1, **colour)
    chart = alt.layer(
        lines.mark_line(strokeWidth=2, aria=False, **colour).encode(**encoding),
        points.encode(description="about:N", **({"color": encoding["color"]} if several else {})),
    ).properties(width=350, height=150, title=title)
    return svg(chart, name, f"{title}, over training's steps")


def spectrum(name: str, title: str, measured: Mapping[str, Mapping[str, float]]) -> Markup:
    """Normalised singular values of a prompt's languages, averaged over prompts, of each role."""
    rows = [
        {"role": role, "at": int(at), "value": value, "about": f"{role}, singular value {at}: {value:.3f}"}
        for role, values in measured.items()
        for at, value in values.items()
    ]
    scales = role_scales(list(measured))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("at:O", title="singular value, the largest first", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("value:Q", title="share of their sum", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5)),
    )
    chart = alt.layer(
        base.mark_line(strokeWidth=2, aria=False).encode(
            color=scales["color"], strokeDash=alt.StrokeDash("role:N", sort=list(measured), legend=None)
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(description="about:N", **scales),
    ).properties(width=350, height=200, title=title)
    return svg(chart, name, f"{title}: singular spectrum before and after")


def representation_map(name: str, points: pd.DataFrame, by: str) -> Markup:
    """Prompts in two dimensions, base and candidate side by side, coloured by ``language`` or ``intent``."""
    names = [label(tag) for tag in dict.fromkeys(points["language"])]
    labelled = points.assign(language=points["language"].map(label))
    about = [f"{r.language}, {r.intent}, {r.role}" for r in labelled.itertuples()]
    order = names if by == "language" else ["harmful", "benign"]
    colours = [*DISTINCT, *ROLE_COLOURS.values()] if by == "language" else [DISTINCT[1], DISTINCT[0]]
    marks = (
        alt.Chart(alt.Data(values=labelled.drop(columns="id").assign(about=about).to_dict("records")))
        .mark_point(size=26, opacity=0.75, strokeWidth=1.4)
        .encode(
            x=alt.X("x:Q", axis=alt.Axis(labels=False), title=None),
            y=alt.Y("y:Q", axis=alt.Axis(labels=False), title=None),
            color=alt.Color(f"{by}:N", sort=order, scale=alt.Scale(range=colours), legend=alt.Legend(columns=4)),
            shape=alt.Shape(
                "intent:N",
                sort=["harmful", "benign"],
                scale=alt.Scale(range=["triangle-up", "circle"]),
                legend=alt.Legend(symbolStrokeColor="#7f7f7f") if by == "language" else alt.Legend(columns=4),
            ),
            column=alt.Column("role:N", sort=["base", "candidate"]),
            description="about:N",
        )
        .properties(width=250, height=230)
    )
    return svg(marks, name, f"Map of prompt representations by {by}, base and candidate")
