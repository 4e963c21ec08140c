from __future__ import annotations

import re
from pathlib import Path

import great_expectations.expectations as gxe
import pandas as pd
import pytest

from mlc.errors import MlcError
from mlc.quality import quarantine, suite
from mlc.quality.checks import add_quality, long_frame
from mlc.quality.data_docs import make_offline
from mlc.quality.decisions import Releases
from mlc.settings import Languages, Validate

from .conftest import Sets, with_text, world_rows


def checked(sets: Sets, languages: Languages, validate: Validate) -> pd.DataFrame:
    frame = add_quality(long_frame(sets, languages.all, "en"), "en", ("alignment", "evaluation"))
    bad = quarantine.reasons(frame, validate, "en", Releases()).map(bool)
    none = pd.Series([None] * len(frame), frame.index, dtype=object)
    return frame.assign(
        pairs=none,
        references=none,
        quarantined=bad.astype(object).where(frame["text"].notna(), None),
        clean=frame["text"].notna() & ~bad,
    )


def test_a_wholly_wrong_language_fails_there_and_only_there(
    sets: Sets, languages: Languages, validate: Validate, tmp_path: Path
) -> None:
    spanish = [row.prompts["es"] for row in world_rows("alignment", 60, ("es",))]
    sets["alignment"] = [with_text(row, "sw", text) for row, text in zip(sets["alignment"], spanish, strict=True)]
    outcomes = suite.check(checked(sets, languages, validate), languages, validate, tmp_path)
    assert {(o.set, o.language) for o in outcomes} == {(s, t) for s in sets for t in languages.all}
    assert {o.language for o in outcomes if o.check == "clean"} == set(languages.served)
    failed = [outcome for outcome in outcomes if not outcome.success]
    assert {(o.set, o.language) for o in failed} == {("alignment", "sw")}
    wrong = {o.check: o for o in failed}
    assert set(wrong) == {"right_language", "other_language", "quarantined", "clean"}
    assert wrong["right_language"].failing > 54
    assert re.fullmatch(
        r"alignment, sw, right_language: \d+ of 60 identified as another language "
        r"\(\d+\.\d%, 95% interval [\d.]+–[\d.]+%; 20\.0% allowed\)",
        str(wrong["right_language"]),
    )


@pytest.mark.parametrize(
    "failing, success, warned", [(3, True, False), (4, True, True), (7, True, True), (8, False, False)]
)
def test_the_allowed_share_is_allowed_what_may_be_chance_warns_and_what_is_surely_more_fails(
    sets: Sets,
    languages: Languages,
    validate: Validate,
    tmp_path: Path,
    failing: int,
    success: bool,
    warned: bool,
) -> None:
    """Of 60 texts, where 5% are allowed: from 8 on, the interval's lower bound is above."""
    sets["alignment"] = [
        with_text(row, "sw", "?") if number < failing else row for number, row in enumerate(sets["alignment"])
    ]
    outcomes = suite.check(checked(sets, languages, validate), languages, validate, tmp_path)
    of = {o.check: o for o in outcomes if (o.set, o.language) == ("alignment", "sw")}
    for check in ("empty", "quarantined"):
        assert (of[check].success, of[check].warned) == (success, warned)
        assert (of[check].interval[0] > of[check].allowed) == (not success)
    assert (of["empty"].failing, of["empty"].lines) == (failing, 60)
    pages = [page.read_text(encoding="utf-8") for page in tmp_path.rglob("validations/alignment-sw-warnings/**/*.html")]
    assert any(f"A warning: alignment, sw, empty: {failing} of 60 without letters" in page for page in pages) == warned
    (page,) = [page.read_text(encoding="utf-8") for page in tmp_path.rglob("validations/alignment-sw/**/*.html")]
    assert "5.0% may be without letters; surely more are, from 8 of 60 on" in page


def test_a_share_that_may_not_be_at_all_fails_at_once(
    sets: Sets, languages: Languages, validate: Validate, tmp_path: Path
) -> None:
    sets["alignment"][0] = with_text(sets["alignment"][0], "sw", "?")
    strict = validate.model_copy(update={"maximum_quarantined": 0.0})
    outcomes = suite.check(checked(sets, languages, strict), languages, strict, tmp_path)
    assert {(o.language, o.check) for o in outcomes if not o.success} == {("sw", "empty"), ("sw", "quarantined")}
    assert not [o for o in outcomes if o.warned]


def test_an_expectation_that_raises_is_an_error_not_a_failure(
    sets: Sets, languages: Languages, validate: Validate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = gxe.ExpectColumnValuesToBeBetween(column="no_such_column", min_value=0, mostly=0.5)
    monkeypatch.setattr(suite, "expectations", lambda *_: [broken])
    with pytest.raises(MlcError, match=r"alignment, en: the check of no_such_column could not be run \(.*\)") as raised:
        suite.check(checked(sets, languages, validate), languages, validate, tmp_path)
    assert type(raised.value) is MlcError
    assert "\n" not in str(raised.value)


def test_data_docs_need_no_internet(sets: Sets, languages: Languages, validate: Validate, tmp_path: Path) -> None:
    sets["evaluation"] = [with_text(row, "sw", "?") for row in sets["evaluation"]]
    make_offline(tmp_path, suite.check(checked(sets, languages, validate), languages, validate, tmp_path), {})
    pages = list(tmp_path.rglob("*.html"))
    for page in pages:
        assert not re.search(r"""<(script|img|link)\b[^>]*(src|href)=["']https?:""", page.read_text(encoding="utf-8"))
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="(validations/[^"]+)"', index)
    assert len(links) == len(sets) * len(languages.all)
    assert all((tmp_path / link).is_file() for link in links)
    assert index.count("failed: ") == 1
