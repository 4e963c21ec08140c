"""``mlc compare A B --html``: the comparison as a page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from markupsafe import Markup

from mlc.compare.difference import RATES, heads, judgement, rule_rows, value_words
from mlc.gates.rules import title
from mlc.report.drawing import INK, SOFT, label, svg
from mlc.report.page import render
from mlc.settings import HIGHER_IS_BETTER
from mlc.text import percent

COLOURS = {"better": "#0b5395", "worse": "#b35901", "no more than chance": SOFT}  # the first two as of the roles
SHAPES = {"better": "triangle-up", "worse": "triangle-down", "no more than chance": "circle"}


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _row(rate: Mapping[str, Any]) -> dict[str, Any]:
    how, name = judgement(rate), label(rate["language"])
    about = (
        f"{name}: {percent(rate['a'])}, then {percent(rate['b'])}: {_points(rate['difference'])}, interval "
        f"{_points(rate['low'])} to {_points(rate['high'])}, {rate['n']} prompts, {how}"
    )
    numbers = {key: rate[key] for key in ("difference", "low", "high")}
    return {**numbers, "language": name, "how": how, "about": about}


def changes(rate: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """B less A of one rate in each language, with its interval; what is more than chance has another shape."""
    found = [_row(row) for row in rows]
    reach = max(0.05, *(abs(row[end]) for row in found for end in ("low", "high")))
    better = "right" if rate in HIGHER_IS_BETTER else "left"
    base = alt.Chart(alt.Data(values=found)).encode(y=alt.Y("language:N", sort=None, title=None), description="about:N")
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


def page(found: Mapping[str, Any]) -> str:
    """The comparison that ``mlc.compare.between`` found, as HTML."""
    of = {rate: [row for row in found["rates"] if row["rate"] == rate] for rate in RATES}
    of = {rate: rows for rate, rows in of.items() if rows}
    return render(
        "comparison.html",
        package="compare",
        a=found["a"]["name"],
        b=found["b"]["name"],
        charts=[changes(rate, rows) for rate, rows in of.items()],
        failed=(found["b"]["verdict"] or {}).get("failed", []),
        heads=heads(found),
        passed=bool(found["b"]["verdict"] and found["b"]["verdict"]["passed"]),
        rates={title(rate): [(row, judgement(row)) for row in rows] for rate, rows in of.items()},
        rules=rule_rows(found),
        settings=[(p["key"], value_words(p["a"]), value_words(p["b"])) for p in found["params"]],
    )
