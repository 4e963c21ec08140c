"""Charts of rates: each language's with its interval, and safety against over-refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from markupsafe import Markup

from mlc.evaluation.metrics import Estimate
from mlc.report.drawing import INK, PAPER, SOFT, label, role_scales, svg
from mlc.text import interval, percent

Rates = Mapping[str, Mapping[str, Estimate]]  # role -> language -> estimate
_PERCENT = alt.Axis(format=".0%", tickCount=5)


def _row(role: str, tag: str, title: str, estimate: Estimate | None) -> dict[str, Any]:
    row = {"role": role, "language": label(tag)}
    if estimate is None:
        return {**row, "missing": f"{role}: no samples", "about": f"{label(tag)}, {role}: no samples"}
    value, ends = percent(estimate["value"]), interval(estimate)
    about = f"{label(tag)}, {role}: {title.lower()} {value}, interval {ends}, {estimate['n']} prompts"
    return {**row, **{key: estimate[key] for key in ("value", "low", "high")}, "about": about}


def rate_chart(
    name: str, title: str, languages: Sequence[str], estimates: Rates, threshold: float | None, better: str
) -> Markup:
    """One rate of every role in each language: a mark for the estimate, a line for its interval.

    Args:
        name: the drawing's id on the page.
        title: the rate's name; ``better`` is "higher" or "lower".
        languages: tags, from top to bottom; one without samples says so.
        estimates: shares, of the roles that there are.
        threshold: the gate's limit, as a share.
    """
    roles = list(estimates)
    rows = [_row(role, tag, title, estimates[role].get(tag)) for tag in languages for role in roles]
    scales = role_scales(roles)
    place = {
        "y": alt.Y("language:N", sort=None, title=None, scale=alt.Scale(paddingInner=0.35)),
        "yOffset": alt.YOffset("role:N", sort=roles),
        "description": "about:N",
    }
    axis = alt.X("value:Q", scale=alt.Scale(domain=[0, 1]), axis=_PERCENT, title=f"{title}, {better} is better")
    known = alt.Chart(alt.Data(values=rows)).transform_filter("isValid(datum.value)")
    layers: list[Any] = []
    if threshold is not None:
        limit = alt.Chart(alt.Data(values=[{"at": threshold, "about": f"limit {percent(threshold)}"}]))
        layers.append(limit.mark_rule(strokeDash=[5, 4], color=SOFT).encode(x="at:Q", description="about:N"))
        note = limit.mark_text(
            color=SOFT, align="left" if threshold < 0.5 else "right", dx=4 if threshold < 0.5 else -4
        )
        layers.append(note.encode(x="at:Q", y=alt.value(-6), text="about:N"))
    layers += [
        known.mark_rule(strokeWidth=2.5, aria=False).encode(
            x=alt.X("low:Q"), x2="high:Q", color=scales["color"], **place
        ),
        known.mark_point(filled=True, opacity=1, size=75, stroke=PAPER, strokeWidth=1).encode(
            x=axis, **scales, **place
        ),
    ]
    missing = [row for row in rows if "missing" in row]
    if missing:
        text = alt.Chart(alt.Data(values=missing)).mark_text(align="left", color=SOFT)
        layers.append(text.encode(x=alt.value(4), text="missing:N", **place))
    chart = alt.layer(*layers).properties(width=330, height=alt.Step(13 if len(roles) > 1 else 22))
    return svg(chart, name, f"{title} of {', '.join(roles)} per language; the table has the numbers")


def trade_off(name: str, languages: Sequence[str], safe: Rates, over: Rates) -> Markup:
    """Safe rate against over-refusal: one mark per language and role, a line from the base's to the candidate's."""
    roles = list(safe)
    rows: list[dict[str, Any]] = [
        {
            "role": role,
            "language": tag,
            "order": order,
            "safe": safe[role][tag]["value"],
            "over": over[role][tag]["value"],
            "about": f"{label(tag)}, {role}: safe rate {percent(safe[role][tag]['value'])}, "
            f"over-refusal {percent(over[role][tag]['value'])}",
        }
        for order, role in enumerate(roles)
        for tag in languages
        if tag in safe[role] and tag in over[role]
    ]
    # Rates that are all small are drawn large; one decimal of ten per cent is the least.
    reach = min(1.0, max(0.1, 1.15 * max((row["over"] for row in rows), default=0.1)))
    spots: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        if row["role"] == "base":
            spots.setdefault((round(4 * row["over"] / reach), round(10 * row["safe"])), []).append(row["language"])
    for row in rows:  # languages in one place are named once, by the first of them
        row["name"] = next((", ".join(tags) for tags in spots.values() if tags[0] == row["language"]), "")
    points = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("over:Q", scale=alt.Scale(domain=[0, reach]), axis=_PERCENT, title="Over-refusal, lower is better"),
        y=alt.Y("safe:Q", scale=alt.Scale(domain=[0, 1]), axis=_PERCENT, title="Safe rate, higher is better"),
    )
    paths = points.transform_filter("datum.role != 'champion'").mark_line(color=SOFT, strokeWidth=1, aria=False)
    marks = points.mark_point(filled=True, opacity=0.9, size=80, clip=False)
    tags = points.transform_filter("datum.role == 'base'").mark_text(dx=9, align="left", color=INK, aria=False)
    chart = alt.layer(
        paths.encode(detail="language:N", order="order:Q"),
        marks.encode(description="about:N", **role_scales(roles)),
        tags.encode(text="name:N"),
    ).properties(width=360, height=300)
    return svg(chart, name, "Safe rate against over-refusal, one mark per language; the best corner is top left")
