"""Charts as static SVG that is put into the page as it is: no script, no network, the same bytes every time.

Text stays text, so it can be read aloud, selected and zoomed. Base and candidate differ in shape as well as colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlc.paths import Role
from mlc.prompts.schema import language_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlc.evaluation.metrics import Estimate

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#767676",
    "axes.labelcolor": "#1b1b1b",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same on every machine
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mlc",
    "text.parse_math": False,  # a log column may hold a dollar sign
    "xtick.color": "#4a4a4a",
    "ytick.color": "#1b1b1b",
}
_WIDTH = 5.0  # inches; 360 units, so that text keeps its size on a phone
_MARKS: dict[Role, dict[str, Any]] = {
    "base": {"marker": "o", "markerfacecolor": "white", "color": "#b35900", "markersize": 8, "markeredgewidth": 1.8},
    "candidate": {"marker": "D", "color": "#0b5394", "markersize": 7},
}
_OFFSETS: dict[Role, float] = {"base": -0.17, "candidate": 0.17}  # of a row


def _svg(figure: Figure, name: str, label: str) -> Markup:
    buffer = StringIO()
    metadata = dict.fromkeys(("Format", "Type", "Creator", "Date"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]  # an XML prolog and a DTD have no place inside HTML
    # Ids are unique in one drawing; on the page they have to be unique among all of them.
    drawing = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", drawing)
    return Markup(drawing.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))


def _mark(axes: Axes, gid: str, role: Role, estimate: Estimate, height: float) -> None:
    style = _MARKS[role]
    ends = [100 * estimate["low"], 100 * estimate["high"]]
    axes.plot(ends, [height, height], color=style["color"], linewidth=2, solid_capstyle="butt", gid=f"{gid}-interval")
    axes.plot([100 * estimate["value"]], [height], linestyle="none", gid=gid, clip_on=False, zorder=3, **style)


def rate_chart(
    name: str,
    title: str,
    languages: Sequence[str],
    estimates: Mapping[Role, Mapping[str, Estimate]],
    threshold: float | None,
) -> Markup:
    """One rate of base and candidate in each language: a mark for the estimate, a line for its interval.

    Args:
        name: prefix of the drawing's ids; a mark's id is ``{name}-{role}-{language}``, its interval's ends in
            ``-interval``.
        title: what the axis shows.
        languages: tags, from top to bottom.
        estimates: role -> language -> estimate, as shares; a language without samples is missing.
        threshold: the gate's limit, as a share.
    """
    rows = len(languages)
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.95 + 0.42 * rows), layout="constrained")
        axes = figure.add_subplot()
        for row, tag in enumerate(languages):
            for role, offset in _OFFSETS.items():
                if tag in estimates[role]:
                    _mark(axes, f"{role}-{tag}", role, estimates[role][tag], row + offset)
                else:
                    axes.text(
                        1, row + offset, f"{role}: no samples", va="center", size=8.5, gid=f"{role}-{tag}-missing"
                    )
        if threshold is not None:
            axes.axvline(100 * threshold, color="#4a4a4a", linestyle="--", linewidth=1.2, gid="threshold")
        axes.set_yticks(range(rows), [f"{language_name(tag)} ({tag})" for tag in languages])
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xticks(range(0, 101, 25), [f"{tick} %" for tick in range(0, 101, 25)])
        axes.set_xlabel(title)
        axes.grid(axis="x", color="#e0e0e0")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.tick_params(axis="y", pad=8)  # a mark at 0 % reaches over the axis
        handles = [Line2D([], [], linestyle="-", linewidth=2, label=role, **_MARKS[role]) for role in _MARKS]
        if threshold is not None:
            handles.append(Line2D([], [], color="#4a4a4a", linestyle="--", linewidth=1.2, label="limit"))
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False)
        return _svg(figure, name, f"{title}, base and candidate per language; the table below has the numbers")


def line_chart(name: str, title: str, steps: Sequence[float], values: Sequence[float]) -> Markup:
    """One column of the training log over its steps."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.1), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, values, color=_MARKS["candidate"]["color"], linewidth=1.6, gid="line", marker=".")
        axes.set_title(title, loc="left", size=10.5)
        axes.set_xlabel("step")
        axes.grid(color="#e0e0e0")
        axes.tick_params(length=0)
        ends = f"from {values[0]:.4g} to {values[-1]:.4g}"
        return _svg(figure, name, f"{title} in training, {ends}")
