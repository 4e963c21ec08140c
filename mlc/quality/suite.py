"""The Great Expectations suite: what share of each language's variants must pass each quality column.

One batch and one result page per set and language. The columns are made beforehand (mlc.quality.checks), so built-in
expectations say everything, and Data Docs show in words what was demanded and what was found.

A share of a few hundred texts says little about 2%, so a limit is judged by the interval of the share. An expectation's
``mostly`` leaves room for what may be chance, and the language fails only where a share is surely past its limit. What
is past a limit and may be chance is a warning: an expectation of that severity, with the limit itself, in a suite and a
page of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from mlc.errors import MlcError
from mlc.progress import track
from mlc.quality.limits import share_bounds, tolerated
from mlc.settings import Languages, Thresholds, Validate
from mlc.text import interval, percent

_SITE = "quality"
WARNINGS = "-warnings"  # ends the name of a page of warnings
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
    "localised_amount": "with an amount in another currency or unit",
    "lost": "without a number, link, placeholder or code span of the source",
    "misplaced": "belonging to another row",
    "back_translation": "with an unlike back-translation",
    "mistranslated": "with errors as wrong texts have",
    "retrieved": "nearest to another row's source text",
    "duplicate_of": "repeating another row",
    "leaked_from": "standing in a later set",
    "quarantined": "in quarantine for any reason",
    "right_language": "identified as another language",
    "clean": "missing or in quarantine",
    "pairs": "pairs of replies in quarantine",
    "references": "reference replies in quarantine",
}
# Null in these is a missing variant or nothing found; in all others it is "not checked".
_NULL_IS_GOOD = ("duplicate_of", "leaked_from")
_COUNTS = ("quarantined", "clean", "pairs", "references", *_NULL_IS_GOOD)
CHECKS = tuple(check for check in _MEANING if check not in _COUNTS)


# What compares a text with its source text or with the row's other languages, and so judges translations alone.
_BESIDE_SOURCE = {
    "language_margin", "untranslated", "leakage", "chatter", "lost", "localised_amount", "length_deviation", "cut_off",
    "misplaced", "back_translation", "mistranslated", "retrieved",
}  # fmt: skip


def unchecked(lines: pd.DataFrame, of_source: bool) -> list[str]:
    """The checks that say nothing about any of the lines, which are of one language in one set."""
    applicable = [check for check in CHECKS if not (of_source and check in _BESIDE_SOURCE)]
    return [check for check in applicable if lines[check].isna().all()]


class Outcome(NamedTuple):
    """One limit for one language of one set, and what was found."""

    set: str
    language: str
    check: str
    lines: int
    failing: int
    allowed: float
    """The share of the lines that may fail."""
    success: bool
    """False where surely more fail."""

    @property
    def interval(self) -> tuple[float, float]:
        return share_bounds(self.failing, self.lines)

    @property
    def warned(self) -> bool:
        """More fail than are allowed, and it may be chance."""
        return self.success and self.failing > _allowed(self.lines, self.allowed)

    def __str__(self) -> str:
        value, (low, high) = self.failing / max(1, self.lines), self.interval
        may_be = ", so it may be chance" if self.success else ""
        return (
            f"{self.set}, {self.language}, {self.check}: {self.failing} of {self.lines} {_MEANING[self.check]} "
            f"({percent(value)}, 95% interval {interval({'value': value, 'low': low, 'high': high})}; "
            f"{percent(self.allowed)} allowed{may_be})"
        )


def _allowed(lines: int, share: float) -> int:
    """How many of the lines a share is; as a share of 0.02 written as ``1 - 0.98`` is a little more than that."""
    return int(share * lines + 1e-9)


class Limit(NamedTuple):
    """What is demanded of one column: an expectation of Great Expectations, and the share of lines that may fail it."""

    expectation: type[Any]
    arguments: dict[str, Any]
    allowed: float

    def expect(self, check: str, mostly: float, severity: str, found: str) -> Any:
        """The expectation; ``found`` is for Data Docs, which would otherwise say what share of the values must do."""
        ends = [f"{word} {self.arguments[end]:g}" for end, word in _ENDS.items() if end in self.arguments]
        good = f" (good: {' and '.join(ends)})" if ends else ""
        words = {"description": f"{found}{good}", "notes": f"Fails: texts {_MEANING[check]}."}
        return self.expectation(column=check, mostly=mostly, severity=severity, **words, **self.arguments)


_ENDS = {"min_value": "at least", "max_value": "at most"}


def limits_of(limits: Thresholds, served: bool) -> dict[str, Limit]:
    """Check -> what is demanded of one language.

    A transfer language may be missing from any row, so its coverage is not demanded.
    """
    most, deviations = limits.maximum_quarantined, limits.length_ratio_deviations
    between: dict[str, dict[str, Any]] = {
        "characters": {"max_value": limits.maximum_characters},
        "script_share": {"min_value": limits.minimum_script_share},
        "language_margin": {"min_value": limits.minimum_language_margin},
        "length_deviation": {"min_value": -deviations, "max_value": deviations},
        "leakage": {"max_value": limits.maximum_leakage},
        "repetition": {"max_value": limits.maximum_repetition},
        "back_translation": {"min_value": limits.minimum_back_translation},
    }
    nothing, false, true = {"value_set": [""]}, {"value_set": [False]}, {"value_set": [True]}
    in_set: dict[str, tuple[dict[str, Any], float]] = {
        **dict.fromkeys(
            ("control_characters", "other_language", "chatter", "lost", "localised_amount"), (nothing, most)
        ),
        **dict.fromkeys(("empty", "mojibake", "untranslated", "cut_off", "misplaced", "mistranslated"), (false, most)),
        **dict.fromkeys(("quarantined", "pairs", "references"), (false, most)),
        "right_language": (true, 1 - limits.minimum_language_share),
        "retrieved": (true, 1 - limits.minimum_retrieval),
    }
    if served:
        in_set["clean"] = (true, 1 - limits.minimum_coverage)
    demanded = {
        **{check: Limit(gxe.ExpectColumnValuesToBeBetween, bounds, most) for check, bounds in between.items()},
        **{check: Limit(gxe.ExpectColumnValuesToBeInSet, *values) for check, values in in_set.items()},
        **{check: Limit(gxe.ExpectColumnValuesToBeNull, {}, most) for check in _NULL_IS_GOOD},
    }
    return {check: demanded[check] for check in _MEANING if check in demanded}


def expectations(demanded: Mapping[str, Limit], lines: pd.DataFrame) -> list[Any]:
    """The expectations of one language, each failed only by what is surely more than the limit allows.

    Without those on columns that check nothing there: they would always pass.
    """
    result = []
    for check, limit in demanded.items():
        n = len(lines) if check in _NULL_IS_GOOD else int(lines[check].notna().sum())
        if not n:
            continue
        most = tolerated(limit.allowed, n)
        found = f"{percent(limit.allowed)} may be {_MEANING[check]}; surely more are, from {most + 1} of {n} on"
        result.append(limit.expect(check, (n - most) / n, "critical", found))
    return result


def _warnings(demanded: Mapping[str, Limit], outcomes: list[Outcome]) -> list[Any]:
    """The limits that were passed and perhaps by chance, as expectations of that severity."""
    return [
        demanded[outcome.check].expect(outcome.check, 1 - outcome.allowed, "warning", f"A warning: {outcome}")
        for outcome in outcomes
        if outcome.warned
    ]


def _raised(info: dict[str, Any]) -> str | None:
    """The message in an ``exception_info``, which is one record or one per metric; None if nothing raised."""
    for record in [info] if "raised_exception" in info else info.values():
        if record["raised_exception"]:
            return str(record["exception_message"])
    return None


def _outcome(name: str, tag: str, result: Any, demanded: Mapping[str, Limit]) -> Outcome:
    check = str(result.expectation_config.kwargs["column"])
    raised = _raised(result.exception_info)
    if raised is not None:
        # To Great Expectations this is one more failed expectation, with nothing observed.
        raise MlcError(f"{name}, {tag}: the check of {check} could not be run ({' '.join(raised.split())})")
    lines = int(result.result["element_count"] - result.result.get("missing_count", 0))
    failing = int(result.result["unexpected_count"])
    return Outcome(name, tag, check, lines, failing, demanded[check].allowed, bool(result.success))


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
        batch = {"dataframe": lines.reset_index(drop=True)}

        def run(title: str, wanted: list[Any], batch: dict[str, Any] = batch) -> Any:
            suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=wanted))
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(name=title, data=whole, suite=suite)
            )
            return definition.run(batch_parameters=batch, result_format="SUMMARY")

        demanded = limits_of(validate.of(str(tag)), tag in languages.served)
        result = run(f"{name}-{tag}", expectations(demanded, lines))
        found = [_outcome(name, tag, one, demanded) for one in result.results]
        if warnings := _warnings(demanded, found):
            run(f"{name}-{tag}{WARNINGS}", warnings)
        outcomes += found
    context.build_data_docs(_SITE)
    return outcomes
