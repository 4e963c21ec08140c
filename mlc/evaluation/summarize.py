"""All metrics of a file of sample lines, and the files that they are written into."""

from __future__ import annotations

import csv
from pathlib import Path

from mlc.evaluation.agreement import kappas
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.rates import summarize
from mlc.evaluation.samples import read_samples
from mlc.files import replacing
from mlc.languages.tags import language_name
from mlc.settings import Languages
from mlc.text import HEADLINE_RATES, MISSING, percent, title

PLOTTED = HEADLINE_RATES[:3]


def metrics_of(path: Path, languages: Languages, made_by: str) -> Metrics:
    """The metrics of the sample lines of one file, which the command ``made_by`` makes.

    Raises:
        MlcError: the file is missing or broken.
    """
    samples = read_samples(path, made_by)
    return summarize(samples, languages.served, languages.transfer, languages.source, kappas(samples))


def summarize_folder(folder: Path, name: str, languages: Languages, made_by: str) -> Metrics:
    """Writes ``metrics.json`` and ``per_language.csv`` of the ``samples.jsonl`` in ``folder``, and returns the metrics.

    ``name`` is the model's on the screen; ``made_by`` is the command that makes the samples.

    Raises:
        MlcError: the sample lines are missing or broken.
    """
    metrics = metrics_of(folder / "samples.jsonl", languages, made_by)
    metrics.write(folder / "metrics.json")
    _write_plot(folder / "per_language.csv", metrics)
    if metrics.judges is not None:
        kappa = metrics.judges["all"]["fleiss"]
        text = MISSING if kappa is None else f"{kappa:.2f}"
        print(f"{name}: {len(metrics.judges['judges'])} judges, Fleiss' kappa {text}")
    for rate in HEADLINE_RATES:
        of_served = metrics.served.get(rate)
        if of_served is None:  # fidelity, where the language of no reply could be told
            continue
        mean, worst = of_served["mean"]["value"], of_served["worst"]["value"]
        print(f"{name}: {title(rate)} {percent(mean)}, worst language {percent(worst)}")
    if unknown := _language_unknown(metrics, languages):
        print(f"{name}: {unknown}")
    return metrics


def _language_unknown(metrics: Metrics, languages: Languages) -> str | None:
    """Of how many answers the language cannot be told, in words; None where it can of all."""
    of_served = ((tag, metrics.languages[tag]) for tag in languages.served)
    rates = {tag: rates["language_unknown"] for tag, rates in of_served if "language_unknown" in rates}
    unknown = {tag: round(rate["value"] * rate["n"]) for tag, rate in rates.items()}
    if not any(unknown.values()):
        return None
    worst = max(rates, key=lambda tag: rates[tag]["value"])
    return (
        f"the language of {sum(unknown.values())} of {sum(rate['n'] for rate in rates.values())} replies to benign"
        f" prompts cannot be told, most in {language_name(worst)} ({percent(rates[worst]['value'])}): fidelity is about"
        " the others"
    )


def _write_plot(path: Path, metrics: Metrics) -> None:
    """The rates per language that ``dvc plots`` shows."""
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["language", *PLOTTED])
        for tag, rates in metrics.languages.items():
            writer.writerow([tag, *(rates[rate]["value"] if rate in rates else "" for rate in PLOTTED)])
