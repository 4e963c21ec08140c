"""The report in a real browser: it runs clean, draws, filters, prints, and what is hostile stays inert.

Needs Chromium; `make test-browser` runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE
from report.project import FAILED, HARMFUL, LANGUAGES, REJECTED, all_samples, judged, project

from browser.seen import Seen
from mlc.evaluation.samples import write_samples
from mlc.paths import ROLES
from mlc.report import drawing, stage

pytestmark = pytest.mark.browser
CHARTS = {
    "served-safe_rate": 4,
    "served-over_refusal": 4,
    "transfer-safe_rate": 2,
    "transfer-over_refusal": 2,
    "trade-off": 4,
    "categories-harmful": 3,
    "categories-benign": 3,
    **{f"agreement-{intent}-{role}": 2 for intent in ("harmful", "benign") for role in ROLES},
    "spectrum0": 4,
    "spectrum1": 4,
    "map-language": 8,
    "map-intent": 8,
    "curve-paradigm": 2,
    "curve-mlc": 2,
    "curve-total": 2,
}
BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = project(tmp_path_factory.mktemp("project"))
    stage.run(LANGUAGES, paths)
    return paths.report / "index.html"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = project(tmp_path_factory.mktemp("attacked"))
    texts = [*(text for text in HOSTILE if "\ud800" not in text)]
    texts += ["</style></blockquote></body><script>document.title = 'owned'</script>", "a" * 100_000]
    lines = [
        line.model_copy(update={"response": texts[i % len(texts)], "category": f"{line.category} {texts[i % 3]}"})
        for i, line in enumerate(all_samples("candidate"))
    ]
    write_samples(paths.evaluation("candidate") / "samples.jsonl", lines)
    judged(paths, FAILED, REJECTED)
    stage.run(LANGUAGES, paths)
    return paths.report / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_runs_clean_asks_for_nothing_and_fits(browser: Any, report: Path, width: int, scheme: str) -> None:
    seen = Seen(browser, report, width, scheme)
    assert seen.complaints == []
    assert seen.requests == [report.as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_every_chart_is_drawn(browser: Any, report: Path, script: bool) -> None:
    seen = Seen(browser, report, script=script)
    limits = {"served-safe_rate": 1}  # the gate's limit is a mark too
    drawn = {chart: len(seen.marks(chart)) for chart in CHARTS}
    assert drawn == {chart: count + limits.get(chart, 0) for chart, count in CHARTS.items()}
    assert seen.page.locator("#filters").is_visible() is script


def test_the_language_filter_hides_rows_and_dims_marks(browser: Any, report: Path) -> None:
    page = Seen(browser, report).page
    page.select_option("#language", "ar")
    rows = page.locator("tr[data-language]")
    left = {row.get_attribute("data-language") for row in rows.all() if row.get_attribute("hidden") is None}
    assert left == {"ar"}
    assert page.locator("div[data-language=en]").is_hidden()
    assert page.locator("div[data-language=ar]").is_visible()
    assert page.locator('#served-safe_rate .dimmed[aria-label^="English"]').count() == 2
    assert page.locator('#served-safe_rate .dimmed[aria-label^="Arabic"]').count() == 0
    assert "Arabic" in page.locator("#shown").inner_text()
    page.click("#all")
    assert page.locator(".dimmed").count() == 0
    assert page.locator("div[data-language=en]").is_visible()


def test_the_category_filter_shows_its_examples_alone(browser: Any, report: Path) -> None:
    page = Seen(browser, report).page
    page.select_option("#category", "cooking")
    assert page.locator("details.example:visible").count() == 0
    assert page.locator("div.example:visible").count() == 3 * len(LANGUAGES.all)
    assert page.locator("#categories-harmful .dimmed").count() == len(LANGUAGES.all)
    assert page.locator("#categories-benign .dimmed").count() == 0


def test_the_keyboard_reaches_filters_and_folds(browser: Any, report: Path) -> None:
    page = Seen(browser, report).page
    page.focus("#language")
    page.keyboard.press("ArrowDown")
    assert page.locator("#language").input_value() == LANGUAGES.all[0]
    fold = page.locator("details.example summary").first
    fold.focus()
    assert not page.get_by_text(HARMFUL).first.is_visible()
    page.keyboard.press("Enter")
    assert page.locator("details.example[open] blockquote").first.is_visible()


def test_a_mark_tells_its_figures_beside_the_pointer(browser: Any, report: Path) -> None:
    page = Seen(browser, report).page
    mark = page.locator('#served-safe_rate path[aria-label^="Arabic (ar), base"]')
    mark.hover()
    assert page.locator("#tip").inner_text() == mark.get_attribute("aria-label")


def test_right_to_left_text_runs_from_the_right(browser: Any, report: Path, tmp_path: Path) -> None:
    arabic = tmp_path / "index.html"
    arabic.write_text(
        report.read_text(encoding="utf-8").replace("how to bake bread", "كيف أخبز الخبز"), encoding="utf-8"
    )
    page = Seen(browser, arabic).page
    quote = page.locator("blockquote", has_text="كيف أخبز الخبز").locator("visible=true").first
    assert quote.evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_what_is_hostile_stays_inert(browser: Any, attacked: Path) -> None:
    seen = Seen(browser, attacked)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert seen.complaints == []
    assert seen.requests == [attacked.as_uri()]
    assert seen.page.title().startswith("Not promoted")
    assert seen.page.locator("script").count() == 1
    assert seen.page.locator("img, iframe, a[href^=javascript]").count() == 0
    assert not BIDI & set(seen.page.inner_text("body"))
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert "more characters" in seen.page.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(browser: Any, report: Path, width: int, scheme: str) -> None:
    assert Seen(browser, report, width, scheme).serious() == []


def test_it_prints_whole(browser: Any, report: Path) -> None:
    seen = Seen(browser, report, width=1032)  # what A4 across has between its margins
    seen.page.emulate_media(media="print")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wide = seen.page.eval_on_selector_all(
        "table, svg.marks, pre, blockquote",
        "parts => parts.filter(p => p.checkVisibility() && p.getBoundingClientRect().right > innerWidth + 1)"
        ".map(p => p.outerHTML.slice(0, 120))",
    )
    assert wide == []
    assert seen.page.locator("#filters").is_hidden()
    assert not seen.page.get_by_text(HARMFUL).first.is_visible()
    assert seen.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_colours_differ_in_light_and_dark(browser: Any, report: Path) -> None:
    def colour(scheme: str, role: str) -> str:
        mark = (
            Seen(browser, report, scheme=scheme).page.locator(f'#served-safe_rate path[aria-label*=", {role}:"]').first
        )
        return str(mark.evaluate("m => getComputedStyle(m).fill"))

    colours = {(scheme, role): colour(scheme, role) for scheme in ("light", "dark") for role in ROLES}
    assert len(set(colours.values())) == len(colours)
    assert len(drawing.ROLE_COLOURS) == 3
