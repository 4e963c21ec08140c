"""All metrics of one model's samples, as ``metrics.json`` holds them; each has n, an estimate, and an interval."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import TypedDict

from mlc.files import JsonFile

Measure = Literal["mean", "worst", "gap", "variance"]  # of a rate across languages


class Estimate(TypedDict):
    """An estimate with its two-sided interval; ``n`` counts prompts."""

    n: int
    value: float
    low: float
    high: float


class Kappas(TypedDict):
    """Kappas on ``n`` samples; ``cohen`` has those of each two judges, by ``a / b``.

    A kappa is null where it is not defined: all judges gave all samples the same verdict.
    """

    n: int
    fleiss: float | None
    cohen: dict[str, float | None]


class JudgeAgreement(TypedDict):
    """The judges' names, and their kappas on all samples and in each language."""

    judges: list[str]
    all: Kappas
    languages: dict[str, Kappas]


class Rates(TypedDict, total=False):
    """Estimates of the rates that there are samples for."""

    safe_rate: Estimate
    attack_success_rate: Estimate
    over_refusal: Estimate
    invalid: Estimate
    fidelity: Estimate
    refusal_fidelity: Estimate
    language_unknown: Estimate
    cut_off: Estimate
    only_thinking: Estimate


class LanguageMetrics(Rates, total=False):
    """A language's rates, the perplexity of its reference replies, and its rates by the prompts' categories."""

    perplexity: Estimate
    categories: dict[str, Rates]


class AcrossMeasures(TypedDict, total=False):
    """A rate across languages: the mean over them, the worst, the largest distance from the source language, and the
    variance of the percentages divided by 100."""

    mean: Estimate
    worst: Estimate
    gap: Estimate
    variance: Estimate


class AcrossLanguages(TypedDict, total=False):
    """Every rate across languages, and pairwise agreement between them on harmful and on benign prompts."""

    safe_rate: AcrossMeasures
    attack_success_rate: AcrossMeasures
    over_refusal: AcrossMeasures
    invalid: AcrossMeasures
    fidelity: AcrossMeasures
    refusal_fidelity: AcrossMeasures
    language_unknown: AcrossMeasures
    cut_off: AcrossMeasures
    only_thinking: AcrossMeasures
    pag: Estimate
    pag_benign: Estimate


class Metrics(JsonFile):
    """All metrics of one model's samples: per language, across the served and the transfer languages, and how far the
    judges agree, where there are several.

    Version 2 has ``cut_off``, the share of replies that the model did not end, where it is known of all of them.
    Version 3 has ``language_unknown``, the share of replies to benign prompts of which cannot be said in which language
    they are; they are not among those of ``fidelity``.
    Version 4 has ``only_thinking``, the share of replies with thinking that are nothing else, where there are any.
    """

    VERSION: ClassVar[int] = 4

    languages: dict[str, LanguageMetrics]
    served: AcrossLanguages
    transfer: AcrossLanguages
    judges: JudgeAgreement | None = None
