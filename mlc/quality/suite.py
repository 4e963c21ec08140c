"""The Great Expectations suite: what share of each language's variants must pass each quality column.

One batch and one result page per set and language. The columns are made beforehand (mlc.quality.checks), so built-in
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
from mlc.settings import Languages, Thresholds, Validate
from mlc.text import percent

_SITE = "quality"
# What it means for a line to fail a check, in messages and on the result pages.
_MEANING = {
    "characters": "too long",
    "empty": "without letters",
    "control_characters": "with invisible or undecodable characters",
    "mojibake": "decoded with the wrong encoding",
    "script_share": "in another script",
    "language_margin": "reading like another language of the set",
    "other_language": "surely in another language",
    "length_deviation": "of unusual length",
    "cut_off": "cut off",
    "untranslated": "left in the source language",
    "leakage": "partly left in the source language",
    "repetition": "repeating themselves",
    "chatter": "with a translator's own words",
    "lost": "without a number, link, placeholder or code span of the source",
    "localised_amount": "with an amount in another currency or unit",
    "misplaced": "belonging to another row",
    "back_translation": "with an unlike back-translation",
    "mistranslated": "with errors as wrong texts have",
    "retrieved": "nearest to another row's source text",
    "duplicate_of": "repeating another row",
    "leaked_from": "standing in a later set",
    "quarantined": "in quarantine for any reason",
    "right_language": "identified as another language",
    "clean": "missing or in quarantine",
}
# Null in these is a missing variant or nothing found; in all others it is "not checked".
_NULL_IS_GOOD = ("duplicate_of", "leaked_from")
_COUNTS = ("quarantined", "clean", *_NULL_IS_GOOD)
CHECKS = tuple(check for check in _MEANING if check not in _COUNTS)


# What compares a text with its source text; the source text itself has nothing to be compared with.
_BESIDE_SOURCE = {
    "untranslated", "leakage", "chatter", "lost", "localised_amount", "length_deviation", "cut_off", "misplaced",
    "back_translation", "mistranslated", "retrieved",
}  # fmt: skip


def unchecked(lines: pd.DataFrame, of_source: bool) -> list[str]:
    """The checks that say nothing about any of the lines, which are of one language in one set."""
    applicable = [check for check in CHECKS if not (of_source and check in _BESIDE_SOURCE)]
    return [check for check in applicable if lines[check].isna().all()]


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
            f"{percent(self.failing)} of {self.lines} {_MEANING[self.check]}, {percent(self.allowed)} allowed"
        )


def expectations(limits: Thresholds, unchecked: Collection[str], served: bool) -> list[Any]:
    """The expectations for one language, without those on columns that check nothing there: they would always pass.

    A transfer language may be missing from any row, so its coverage is not demanded.
    """
    mostly = 1 - limits.maximum_quarantined
    deviations = limits.length_ratio_deviations
    bounds: dict[str, dict[str, float]] = {
        "characters": {"max_value": limits.maximum_characters},
        "script_share": {"min_value": limits.minimum_script_share},
        "language_margin": {"min_value": limits.minimum_language_margin},
        "length_deviation": {"min_value": -deviations, "max_value": deviations},
        "leakage": {"max_value": limits.maximum_leakage},
        "repetition": {"max_value": limits.maximum_repetition},
        "back_translation": {"min_value": limits.minimum_back_translation},
    }
    values: dict[str, tuple[list[Any], float]] = {
        **dict.fromkeys(
            ("control_characters", "other_language", "chatter", "lost", "localised_amount"), ([""], mostly)
        ),
        **dict.fromkeys(
            ("empty", "mojibake", "untranslated", "cut_off", "misplaced", "mistranslated"), ([False], mostly)
        ),
        "quarantined": ([False], mostly),
        "right_language": ([True], limits.minimum_language_share),
        "retrieved": ([True], limits.minimum_retrieval),
    }
    if served:
        values["clean"] = ([True], limits.minimum_coverage)
    demanded = []
    for check in _MEANING:
        if check in unchecked:
            continue
        if check in bounds:
            demanded.append(gxe.ExpectColumnValuesToBeBetween(column=check, mostly=mostly, **bounds[check]))
        elif check in _NULL_IS_GOOD:
            demanded.append(gxe.ExpectColumnValuesToBeNull(column=check, mostly=mostly))
        elif check in values:
            allowed, share = values[check]
            demanded.append(gxe.ExpectColumnValuesToBeInSet(column=check, value_set=allowed, mostly=share))
    for expectation in demanded:
        expectation.notes = f"Fails: variants {_MEANING[expectation.column]}."
    return demanded


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
    present = frame[frame.groupby(["set", "language"], observed=True)["present"].transform("any")]
    groups = present.groupby(["set", "language"], sort=False, observed=True)
    for (name, tag), lines in track(groups, "checking translations", len(groups)):
        title = f"{name}-{tag}"
        silent = [check for check in CHECKS if lines[check].isna().all()]
        demanded = expectations(validate.of(str(tag)), silent, tag in languages.served)
        suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=demanded))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=title, data=whole, suite=suite))
        batch = {"dataframe": lines.reset_index(drop=True)}
        result = definition.run(batch_parameters=batch, result_format="SUMMARY")
        outcomes += [_outcome(name, tag, one) for one in result.results]
    context.build_data_docs(_SITE)
    return outcomes
