"""``mlc compare A B --html``: the comparison as a page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from markupsafe import Markup

from mlc.compare.difference import Comparison, RateChange, setting_text
from mlc.report.drawing import INK, SOFT, label, svg
from mlc.report.page import render
from mlc.settings import HIGHER_IS_BETTER
from mlc.text import HEADLINE_RATES, percent, points, title

COLOURS = {"better": "#0b5395", "worse": "#b35901", "no more than chance": SOFT}  # the first two as of the roles
SHAPES = {"better": "triangle-up", "worse": "triangle-down", "no more than chance": "circle"}


def _row(rate: RateChange) -> dict[str, Any]:
    name = label(rate.language)
    about = (
        f"{name}: {percent(rate.a)}, then {percent(rate.b)}: {points(rate.difference)} points, interval"
        f" {points(rate.low)} to {points(rate.high)} points, {rate.n} prompts, {rate.judgement}"
    )
    numbers = {"difference": rate.difference, "low": rate.low, "high": rate.high}
    return {**numbers, "language": name, "how": rate.judgement, "about": about}


def changes(rate: str, of_rate: Sequence[RateChange]) -> Markup:
    """B less A of one rate in each language, with its interval; what is more than chance has another shape."""
    rows = [_row(change) for change in of_rate]
    reach = max(0.05, *(abs(row[end]) for row in rows for end in ("low", "high")))
    better = "right" if rate in HIGHER_IS_BETTER else "left"
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("language:N", sort=None, title=None), description="about:N")
    colour = alt.Color("how:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())))
    shape = alt.Shape("how:N", scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())))
    axis = alt.X(
        "difference:Q",
        scale=alt.Scale(domain=[-reach, reach]),
        axis=alt.Axis(format="+.0%", tickCount=5),
        title=f"{title(rate)}, B less A; better is to the {better}",
    )
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=INK, aria=False).encode(x="at:Q"),
        base.mark_rule(strokeWidth=2.5, aria=False).encode(x="low:Q", x2="high:Q", color=colour),
        base.mark_point(filled=True, opacity=1, size=130).encode(x=axis, color=colour, shape=shape),
    ).properties(width=330, height=alt.Step(22))
    return svg(chart, f"change-{rate}", f"Change of {title(rate)} per language; the table has the numbers")


def page(comparison: Comparison) -> str:
    """The comparison as HTML."""
    of = {rate: [row for row in comparison.rates if row.rate == rate] for rate in HEADLINE_RATES}
    of = {rate: rows for rate, rows in of.items() if rows}
    return render(
        "comparison.html",
        package="compare",
        comparison=comparison,
        charts=[changes(rate, rows) for rate, rows in of.items()],
        passed=bool(comparison.b.verdict and comparison.b.verdict.passed),
        rates={title(rate): rows for rate, rows in of.items()},
        rules=[(title(rule.rule), rule) for rule in comparison.rules],
        settings=[(p.key, setting_text(p.a), setting_text(p.b)) for p in comparison.params],
    )
