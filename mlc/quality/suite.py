"""The Great Expectations suite: what share of each language's variants must pass each quality column.

One batch and one result page per set and language. The columns are made beforehand (mlc.quality.columns), so built-in
expectations say everything, and Data Docs show in words what was demanded and what was found.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from mlc.errors import MlcError
from mlc.progress import track
from mlc.settings import Languages, Validate

_SITE = "quality"
# Null in these columns is "not checked"; in the others it is a missing variant, or nothing found.
_CHECKED = ("script_share", "length_deviation", "untranslated", "right_language")
# What it means for a line to fail a check, in messages and on the result pages.
_MEANING = {
    "empty": "without letters",
    "script_share": "in another script",
    "length_deviation": "of unusual length",
    "untranslated": "left in the source language",
    "duplicate_of": "repeating another row",
    "leaked_from": "standing in a later set",
    "quarantined": "in quarantine for any reason",
    "right_language": "identified as another language",
    "clean": "missing or in quarantine",
}


class Outcome(NamedTuple):
    """One expectation's result for one language of one set."""

    set: str
    language: str
    check: str
    lines: int
    failing: float
    allowed: float
    success: bool

    def __str__(self) -> str:
        return (
            f"{self.set}, {self.language}, {self.check}: "
            f"{self.failing:.1%} of {self.lines} {_MEANING[self.check]}, {self.allowed:.1%} allowed"
        )


def expectations(validate: Validate, unchecked: Collection[str], served: bool) -> list[Any]:
    """The expectations for one language, without those on columns that check nothing there: they would always pass.

    A transfer language may be missing from any row, so its coverage is not demanded.
    """
    mostly = 1 - validate.maximum_quarantined
    deviations = validate.length_ratio_deviations
    demanded = [
        gxe.ExpectColumnValuesToBeInSet(column="empty", value_set=[False], mostly=mostly),
        gxe.ExpectColumnValuesToBeBetween(
            column="script_share", min_value=validate.minimum_script_share, mostly=mostly
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="length_deviation", min_value=-deviations, max_value=deviations, mostly=mostly
        ),
        gxe.ExpectColumnValuesToBeInSet(column="untranslated", value_set=[False], mostly=mostly),
        gxe.ExpectColumnValuesToBeNull(column="duplicate_of", mostly=mostly),
        gxe.ExpectColumnValuesToBeNull(column="leaked_from", mostly=mostly),
        gxe.ExpectColumnValuesToBeInSet(column="quarantined", value_set=[False], mostly=mostly),
        gxe.ExpectColumnValuesToBeInSet(
            column="right_language", value_set=[True], mostly=validate.minimum_language_share
        ),
    ]
    if served:
        demanded.append(
            gxe.ExpectColumnValuesToBeInSet(column="clean", value_set=[True], mostly=validate.minimum_coverage)
        )
    checked = [expectation for expectation in demanded if expectation.column not in unchecked]
    for expectation in checked:
        expectation.notes = f"Fails: variants {_MEANING[expectation.column]}."
    return checked


def _raised(info: dict[str, Any]) -> str | None:
    """The message in an ``exception_info``, which is one record or one per metric; None if nothing raised."""
    for record in [info] if "raised_exception" in info else info.values():
        if record["raised_exception"]:
            return str(record["exception_message"])
    return None


def _outcome(name: str, tag: str, result: Any) -> Outcome:
    config = result.expectation_config
    check, mostly = str(config.kwargs["column"]), float(config.kwargs["mostly"])
    raised = _raised(result.exception_info)
    if raised is not None:
        # To Great Expectations this is one more failed expectation, with nothing observed.
        raise MlcError(f"{name}, {tag}: the check of {check} could not be run ({' '.join(raised.split())})")
    lines = int(result.result["element_count"] - result.result.get("missing_count", 0))
    failing = int(result.result["unexpected_count"]) / lines if lines else 0.0
    return Outcome(name, tag, check, lines, failing, 1 - mostly, bool(result.success))


def check(frame: pd.DataFrame, languages: Languages, validate: Validate, docs: Path) -> list[Outcome]:
    """Runs the suite on a frame with all quality columns, and writes Data Docs into the folder ``docs``.

    A language of which a set has no variant at all is left out.

    Raises:
        MlcError: an expectation could not be run.
    """
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        _SITE,
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
        },
    )
    asset = context.data_sources.add_pandas("prompts").add_dataframe_asset("variants")
    whole = asset.add_batch_definition_whole_dataframe("all")
    outcomes: list[Outcome] = []
    present = frame[frame.groupby(["set", "language"])["text"].transform("count") > 0]
    groups = present.groupby(["set", "language"], sort=False)
    for (name, tag), lines in track(groups, "checking translations", len(groups)):
        title = f"{name}-{tag}"
        unchecked = [column for column in _CHECKED if lines[column].isna().all()]
        demanded = expectations(validate, unchecked, tag in languages.served)
        suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=demanded))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=title, data=whole, suite=suite))
        result = definition.run(batch_parameters={"dataframe": lines}, result_format="SUMMARY")
        outcomes += [_outcome(name, tag, one) for one in result.results]
    context.build_data_docs(_SITE)
    return outcomes
