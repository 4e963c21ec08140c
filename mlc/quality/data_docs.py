"""Makes Data Docs readable without internet.

Great Expectations' pages load their styles from six hosts and its logo, stamped with the time, from a seventh, and its
index is drawn by a script from there: offline it is an empty page. The result pages themselves are complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from mlc.quality.suite import WARNINGS, Outcome

_REMOTE = re.compile(
    r"""<link\b[^>]*href="https?:[^>]*>|<script\b[^>]*src="https?:[^>]*>\s*</script>|<img\b[^>]*src="https?:[^>]*>"""
)
_STYLE = """<style>
body { font-family: system-ui, sans-serif; margin: 2rem; line-height: 1.45; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { border: 1px solid #bbb; padding: 0.3rem 0.7rem; text-align: left; vertical-align: top; }
.failed { background: #f6cfcb; color: #5c1010; }
.warned { background: #fdf0c4; color: #4a3800; }
td .fa-check-circle::before { content: "passed"; }
td .fa-times::before { content: "failed"; color: #5c1010; }
.col-lg-2, .modal, .cta-footer, footer { display: none; }
</style>"""


def make_offline(folder: Path, outcomes: Iterable[Outcome], unchecked: Mapping[tuple[str, str], Sequence[str]]) -> None:
    """Takes everything remote out of the pages below ``folder`` and replaces its index by a table of the outcomes.

    Args:
        folder: of Data Docs.
        outcomes: of every expectation.
        unchecked: (set, language) -> the checks that say nothing about it.
    """
    for page in folder.rglob("*.html"):
        text = _REMOTE.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", _STYLE + "</head>", 1), encoding="utf-8")
    (folder / "index.html").write_text(_index(folder, list(outcomes), unchecked), encoding="utf-8")


def _index(folder: Path, outcomes: list[Outcome], unchecked: Mapping[tuple[str, str], Sequence[str]]) -> str:
    sets, tags = (list(dict.fromkeys(getattr(o, field) for o in outcomes)) for field in ("set", "language"))
    head = "".join(f"<th>{escape(name)}</th>" for name in sets)
    body = "".join(
        f"<tr><th>{escape(tag)}</th>"
        + "".join(
            _cell(folder, [o for o in outcomes if (o.set, o.language) == (name, tag)], unchecked.get((name, tag), ()))
            for name in sets
        )
        + "</tr>\n"
        for tag in tags
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Translation quality</title>{_STYLE}</head><body>
<h1>Translation quality</h1>
<p>Each cell leads to what was demanded of the language in the set and what was found. A language fails where surely
more texts fall short than its limits allow (by a 95% interval); where more do, and it may be chance, it is warned.
Checks that are named as unchecked say nothing about the language there, for or against it.
The variants that fell short, and why, are in quarantine.jsonl.</p>
<table><tr><th>language</th>{head}</tr>
{body}</table></body></html>
"""


def _cell(folder: Path, outcomes: list[Outcome], unchecked: Sequence[str]) -> str:
    if not outcomes:
        return "<td>no variants</td>"
    first, failed = outcomes[0], [o.check for o in outcomes if not o.success]
    warned = [o.check for o in outcomes if o.warned]
    verdict = _link(folder, first, "", "failed: " + ", ".join(failed) if failed else "passed")
    if warned:
        verdict += f"<br>{_link(folder, first, WARNINGS, 'warnings: ' + ', '.join(warned))}"
    silent = f"<br><small>unchecked: {escape(', '.join(unchecked))}</small>" if unchecked else ""
    return f'<td class="{"failed" if failed else "warned" if warned else "passed"}">{verdict}{silent}</td>'


def _link(folder: Path, outcome: Outcome, kind: str, words: str) -> str:
    page = next((folder / "validations" / f"{outcome.set}-{outcome.language}{kind}").rglob("*.html"))
    return f'<a href="{quote(page.relative_to(folder).as_posix())}">{escape(words)}</a>'
