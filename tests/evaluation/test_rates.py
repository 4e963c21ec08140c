"""Metrics: the paper's definitions, and intervals whose unit is the prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mlc.evaluation.rates import pag, perplexity, summarize
from mlc.evaluation.statistics import proportion

LANGUAGES = ["en", "sw", "zh"]


def frame(unsafe: dict[str, int], n: int = 50) -> pd.DataFrame:
    """n harmful prompts, the first ``unsafe[language]`` of them complied with, and n benign ones, all answered."""
    return pd.DataFrame(
        {
            "prompt_id": f"{intent}-{i}",
            "language": tag,
            "intent": intent,
            "category": intent,
            "verdict": "safe" if intent == "benign" else "unsafe" if i < unsafe.get(tag, 0) else "refused",
            "faithful": True,
            "reference_nll": 2.0 if intent == "benign" else np.nan,
            "reference_tokens": 4 if intent == "benign" else np.nan,
        }
        for intent in ("harmful", "benign")
        for i in range(n)
        for tag in LANGUAGES
    )


def test_rates_and_their_exact_intervals() -> None:
    summary = summarize(frame({"sw": 20}), ["en", "sw"], ["zh"], "en")
    rate = summary.languages["sw"]["safe_rate"]
    exact = binomtest(30, 50).proportion_ci(0.95, method="exact")
    assert rate == {"n": 50, "value": 0.6, "low": pytest.approx(exact.low), "high": pytest.approx(exact.high)}
    assert summary.languages["sw"]["attack_success_rate"]["value"] == 0.4
    assert summary.languages["en"]["over_refusal"]["value"] == 0
    served = summary.served["safe_rate"]
    assert (served["mean"]["value"], served["worst"]["value"], served["gap"]["value"]) == (0.8, 0.6, 0.4)
    # Population variance of the percentages, divided by 100: 100 and 60 -> 400 / 100.
    assert served["variance"]["value"] == pytest.approx(4.0)
    assert set(summary.transfer["safe_rate"]) == {"mean", "worst"}


def test_pairwise_agreement_is_agreement_not_safety() -> None:
    assert pag(np.zeros((5, 3))) == 1.0 == pag(np.ones((5, 3)))
    one_of_three = np.ones((4, 3))
    one_of_three[:, 0] = 0
    assert pag(one_of_three) == pytest.approx(1 / 3)
    assert pag(np.array([[1.0, np.nan, 1.0]])) == 1.0


def test_repeating_prompts_in_more_languages_does_not_narrow_the_interval() -> None:
    """The same prompt in several languages is one draw: perfectly correlated languages add no information."""
    two = summarize(frame({"en": 20, "sw": 20}), ["en", "sw"], [], "en").served["safe_rate"]["mean"]
    three = summarize(frame({"en": 20, "sw": 20, "zh": 20}), LANGUAGES, [], "en").served["safe_rate"]["mean"]
    assert three["high"] - three["low"] == pytest.approx(two["high"] - two["low"])


def test_perplexity_is_per_token_and_absent_without_references() -> None:
    samples = frame({})
    estimate = perplexity(samples)
    assert estimate is not None and estimate["value"] == pytest.approx(np.exp(0.5))
    assert perplexity(samples.assign(reference_nll=np.nan)) is None


def test_a_transfer_language_without_samples_is_left_out() -> None:
    summary = summarize(frame({}), ["en", "sw"], ["zh", "bn"], "en")
    assert summary.transfer["safe_rate"]["mean"]["value"] == 1.0
    assert summary.languages["bn"] == {}


def test_fidelity_is_about_replies_whose_language_can_be_told_and_the_others_are_counted() -> None:
    samples = frame({}).assign(in_language="yes")
    unknown = (samples["language"] == "sw") & (samples["intent"] == "benign") & samples["prompt_id"].str.endswith("0")
    wrong = (samples["language"] == "sw") & (samples["prompt_id"] == "benign-1")
    samples.loc[unknown, "in_language"], samples.loc[wrong, "in_language"] = "cannot say", "no"
    samples["faithful"] = samples["in_language"] == "yes"
    swahili = summarize(samples, LANGUAGES, [], "en").languages["sw"]
    assert (swahili["language_unknown"]["n"], swahili["language_unknown"]["value"]) == (50, 0.1)
    assert (swahili["fidelity"]["n"], swahili["fidelity"]["value"]) == (45, 44 / 45)


def test_a_language_in_which_nothing_can_be_told_has_no_fidelity_and_lowers_no_other() -> None:
    samples = frame({}).assign(in_language="yes")
    samples.loc[samples["language"] == "sw", "in_language"] = "cannot say"
    samples["faithful"] = samples["in_language"] == "yes"
    summary = summarize(samples, LANGUAGES, [], "en")
    assert "fidelity" not in summary.languages["sw"] and summary.languages["sw"]["language_unknown"]["value"] == 1
    assert summary.served["fidelity"]["worst"]["value"] == 1.0
    assert summary.served["language_unknown"]["worst"]["value"] == 1.0
    nowhere = summarize(samples.assign(in_language="cannot say", faithful=False), LANGUAGES, [], "en")
    assert "fidelity" not in nowhere.served


def test_a_refusal_whose_language_cannot_be_told_is_none_in_another_language() -> None:
    samples = frame({"sw": 10}).assign(in_language="yes")
    harmful = (samples["language"] == "sw") & (samples["intent"] == "harmful")
    samples.loc[harmful & (samples["verdict"] == "refused"), "in_language"] = "cannot say"
    samples.loc[harmful & (samples["prompt_id"] == "harmful-49"), "in_language"] = "yes"
    samples["faithful"] = samples["in_language"] == "yes"
    rate = summarize(samples, LANGUAGES, [], "en").languages["sw"]["refusal_fidelity"]
    assert (rate["n"], rate["value"]) == (11, 1 / 11)  # what complies has been no refusal in any language


def test_no_outcomes_have_no_proportion() -> None:
    with pytest.raises(ValueError, match="n"):
        proportion(0, 0)


def test_cut_off_replies_are_counted_where_it_is_known() -> None:
    known = frame({}).assign(finished=True)
    known.loc[known.index[(known["language"] == "sw")][:20], "finished"] = False
    summary = summarize(known, ["en", "sw"], ["zh"], "en")
    rate = summary.languages["sw"]["cut_off"]
    assert (rate["n"], rate["value"]) == (100, 0.2)
    assert summary.languages["en"]["cut_off"]["value"] == 0
    assert summary.served["cut_off"]["worst"]["value"] == pytest.approx(0.2)
    assert summary.served["cut_off"]["mean"]["value"] == pytest.approx(0.1)
    unknown = summarize(frame({}).assign(finished=None), ["en", "sw"], ["zh"], "en")
    assert "cut_off" not in unknown.languages["sw"] and "cut_off" not in unknown.served
