"""Vega-Lite charts as static SVG that is put into the page as it is: no script, no network, the same bytes every time.

Text stays text, and every mark has a description, so a chart can be read aloud, selected and zoomed. Colours become the
page's CSS variables, for light, dark and print. Roles differ in shape as well as colour.
"""

from __future__ import annotations

import re
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from mlc.languages.tags import language_name

# What a chart is drawn with -> the variable of page.css that it becomes.
INK, SOFT, GRID, PAPER = "#1b1b1a", "#595958", "#d9d9d8", "#fefefd"
VARIABLES = {INK: "ink", SOFT: "soft", GRID: "grid", PAPER: "paper"}
ROLE_COLOURS = {"base": "#b35901", "candidate": "#0b5395", "champion": "#7a3e8f"}
VARIABLES |= {colour: role for role, colour in ROLE_COLOURS.items()}
ROLE_SHAPES = {"base": "circle", "candidate": "diamond", "champion": "square"}
HEAT = ["#fff7ec", "#fdd49e", "#fc8d59", "#b30000"]  # ColorBrewer's OrRd: darker is worse, also in grey

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": 220,
        "titleColor": SOFT,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
    },
    "legend": {"labelColor": INK, "labelFontSize": 12, "titleColor": SOFT, "orient": "top", "title": None},
    "header": {"labelColor": INK, "labelFontSize": 13, "title": None},
    "title": {"color": INK, "fontSize": 13, "anchor": "start", "fontWeight": 600},
    "text": {"color": INK, "fontSize": 11},
}


def label(tag: str) -> str:
    """``Swahili (sw)``: how a language is called on the page; its filter looks for the tag."""
    return f"{language_name(tag)} ({tag})"


def role_scales(roles: list[str]) -> dict[str, Any]:
    """Encodings that tell roles apart, by colour and by shape."""
    colours = alt.Scale(domain=roles, range=[ROLE_COLOURS[role] for role in roles])
    shapes = alt.Scale(domain=roles, range=[ROLE_SHAPES[role] for role in roles])
    return {"color": alt.Color("role:N", scale=colours), "shape": alt.Shape("role:N", scale=shapes)}


def svg(chart: Any, name: str, title: str) -> Markup:
    """A chart as an SVG element.

    Args:
        chart: altair's.
        name: unique on the page; becomes the element's id, and the prefix of those within.
        title: what a screen reader says of the whole chart.
    """
    spec = {**chart.to_dict(validate=False), "config": _CONFIG}  # the parts were validated when they were made
    drawn = vl_convert.vegalite_to_svg(spec, vl_version="6.1", allowed_base_urls=[])
    drawn = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub("|".join(VARIABLES), lambda match: f"var(--{VARIABLES[match[0]]})", drawn)
    named = f'<svg id="{name}" role="group" aria-label="{escape(title)}"'
    return Markup(drawn.replace("<svg", named, 1))
