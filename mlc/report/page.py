"""A page as one file that needs no network: its templates, style and script, and the policy that allows them."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlc import text
from mlc.report.drawing import label


def _inline(name: str) -> dict[str, Markup]:
    """A style or script of this package and the hash by which the page's Content-Security-Policy allows it."""
    content = files("mlc.report").joinpath(name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return {"text": Markup(content), "hash": Markup(f"'sha256-{digest}'")}


def render(template: str, script: str | None = None, package: str = "report", **values: Any) -> str:
    """A template, filled in; whatever is no Markup is escaped. Without a script, none may run.

    The template is one of ``mlc.report`` or of another ``package`` in ``mlc``; both use the frame and macros here.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("mlc", package), PackageLoader("mlc", "report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": text.interval,
        "label": label,
        "number": text.number,
        "percent": text.percent,
        "plain": text.on_page,
        "points": text.points,
        "heading": text.heading,
        "rate_title": text.title,
    }
    page = environment.get_template(template)
    return page.render(style=_inline("page.css"), script=_inline(script) if script else None, **values)
