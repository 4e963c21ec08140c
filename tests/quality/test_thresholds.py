from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.quality import quarantine
from mlc.quality.checks import add_quality, long_frame
from mlc.quality.decisions import Releases
from mlc.settings import Thresholds, Validate, load_settings

from .conftest import Sets, with_text

PARAMS = Path(__file__).parents[2] / "params.yaml"


def with_overrides(validate: Validate, overrides: dict[str, Any]) -> Validate:
    return Validate.model_validate_json(json.dumps(validate.model_dump() | {"per_language": overrides}))


def test_a_language_has_its_own_thresholds_and_shares_the_others(validate: Validate) -> None:
    own = with_overrides(validate, {"sw": {"length_ratio_deviations": 8, "maximum_quarantined": 0.5}})
    assert (own.of("sw").length_ratio_deviations, own.of("sw").maximum_quarantined) == (8, 0.5)
    assert own.of("sw").minimum_script_share == validate.minimum_script_share
    assert own.of("zh") == validate.of("zh") == Thresholds(**{n: getattr(validate, n) for n in Thresholds.model_fields})


@pytest.mark.parametrize(
    "override, message",
    [
        ({"no_such": 1}, "sw: no_such is not a setting"),
        ({"minimum_coverage": 2}, "sw: minimum_coverage = 2"),
        ({"minimum_languages": 2}, "sw: minimum_languages is not a setting"),
    ],
)
def test_what_is_no_threshold_is_refused(override: dict[str, Any], message: str, validate: Validate) -> None:
    with pytest.raises(ValidationError, match=message):
        with_overrides(validate, {"sw": override})


def test_a_language_that_the_settings_do_not_name_is_refused(tmp_path: Path) -> None:
    yaml = YAML()
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    params["validate"]["per_language"] = {"fr": {"length_ratio_deviations": 8.0}}
    yaml.dump(params, tmp_path / "params.yaml")
    with pytest.raises(MlcError, match=r"validate\.per_language holds \['fr'\], which languages does not"):
        load_settings(tmp_path / "params.yaml")


def test_reasons_follow_the_language_of_the_text(sets: Sets, validate: Validate) -> None:
    rows = sets["alignment"]
    for n, tag in enumerate(("sw", "bn")):
        rows[n] = with_text(
            rows[n],
            tag,
            rows[n].prompts[tag] + " abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ the quick brown fox",
        )
    frame = add_quality(long_frame({"alignment": rows}, ("en", "sw", "bn"), "en"), "en", ("alignment",))
    own = with_overrides(validate, {"bn": {"length_ratio_deviations": 1000}})
    reasons: pd.Series = quarantine.reasons(frame, own, "en", Releases())
    assert "length_deviation" in [reason.check for reason in reasons.iloc[1]]
    assert "length_deviation" not in [reason.check for reason in reasons.iloc[5]]
