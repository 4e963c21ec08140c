"""The page of `mlc compare --html` in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records
from report.project import LANGUAGES, all_samples

from browser.seen import Seen
from mlc.compare import difference, page
from mlc.compare.snapshot import Snapshot
from mlc.evaluation.samples import Sample
from mlc.gates.verdict import Verdict

pytestmark = pytest.mark.browser


def snapshot(name: str, lines: list[Sample], weight: float, passed: bool) -> Snapshot:
    rules = [records.result("safe_rate", tag, passed) for tag in LANGUAGES.all]
    failed = [] if passed else ["safe rate in Arabic: 31.0%"]
    verdict = Verdict.model_validate_json(json.dumps(records.verdict(passed=passed, failed=failed, rules=rules)))
    more = [{**line.model_dump(), "prompt_id": f"{line.prompt_id} {i}"} for i in range(5) for line in lines]
    return Snapshot(
        name, None, "a" * 32, {"train.objective.weight": weight}, verdict, pd.DataFrame(more).assign(faithful=True)
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    a = snapshot("version 3", all_samples("base"), 0.0, False)
    b = snapshot("a-branch-of-somebody", all_samples("candidate"), 8.0, True)
    file = tmp_path_factory.mktemp("comparison") / "compare.html"
    file.write_text(page.page(difference.between(a, b)), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_runs_clean_fits_and_can_be_read_by_all(browser: Any, compared: Path, width: int, scheme: str) -> None:
    seen = Seen(browser, compared, width, scheme)
    assert seen.complaints == []
    assert seen.requests == [compared.as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.serious() == []


def test_every_language_has_its_mark_in_every_chart(browser: Any, compared: Path) -> None:
    seen = Seen(browser, compared)
    for rate in ("safe_rate", "over_refusal"):
        assert len(seen.marks(f"change-{rate}")) == len(LANGUAGES.all), rate
    assert seen.page.locator("td.pass, td.fail").count() > 0
