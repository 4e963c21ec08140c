"""A page as one file that needs no network: its templates, style and script, and the policy that allows them."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlc.report import drawing, words


def _inline(name: str) -> dict[str, Markup]:
    """A style or script of this package and the hash by which the page's Content-Security-Policy allows it."""
    text = files("mlc.report").joinpath(name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(f"'sha256-{digest}'")}


def render(template: str, script: str | None = None, **values: Any) -> str:
    """A template of this package, filled in; whatever is no Markup is escaped. Without a script, none may run."""
    environment = Environment(
        loader=PackageLoader("mlc", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": words.interval,
        "label": drawing.label,
        "number": words.number,
        "percent": words.percent,
        "plain": words.plain,
    }
    page = environment.get_template(template)
    return page.render(style=_inline("page.css"), script=_inline(script) if script else None, **values)
