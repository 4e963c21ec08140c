"""The report stage: everything the other stages found out, on one page without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlc import manifest as manifests
from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import read_json, sha256, write_text
from mlc.gates import rules as gate_rules
from mlc.paths import ROLES, Paths, Role
from mlc.prompts.schema import language_name
from mlc.report import charts, examples, words
from mlc.settings import Languages, flat

COLUMNS = [
    {"name": "safe_rate", "title": "Safe rate", "unit": "percent"},
    {"name": "over_refusal", "title": "Over-refusal", "unit": "percent"},
    {"name": "attack_success_rate", "title": "Attack success", "unit": "percent"},
    {"name": "fidelity", "title": "Language fidelity", "unit": "percent"},
    {"name": "refusal_fidelity", "title": "Refusal fidelity", "unit": "percent"},
    {"name": "invalid", "title": "Invalid", "unit": "percent"},
    {"name": "perplexity", "title": "Perplexity", "unit": "number"},
]
CHARTS = {"safe_rate": "Safe rate, higher is better", "over_refusal": "Over-refusal, lower is better"}
MEASURES = {"served": ("mean", "worst", "gap", "variance"), "transfer": ("mean", "worst")}


def headline(verdict: Mapping[str, Any], registration: Mapping[str, Any]) -> str:
    """What happened, as a sentence."""
    if not verdict["passed"]:
        more = len(verdict["failed"]) - 1
        return f"Not promoted: {verdict['failed'][0]}" + (f", and {more} more" if more else "")
    if registration["promoted"]:
        return f"Promoted: version {registration['version']} is champion"
    return f"Not promoted: {registration['reason']}"


def _notes(verdict: Mapping[str, Any], registration: Mapping[str, Any]) -> list[str]:
    """What else to know at once: what became of the candidate, and which model serves now."""
    if verdict["passed"] and registration["promoted"]:
        return list(verdict["notes"])
    version, champion = registration["version"], registration["champion"]
    candidate = (
        f"The candidate is version {version} of {registration['model']}." if version else "It was not registered."
    )
    serving = f"Champion is still version {champion}." if champion else "There is no champion."
    return [f"{candidate} {serving}", *verdict["notes"]]


def _rules(rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rules as the page shows them, the failed ones first."""
    return [_rule(rule) for rule in sorted(rules, key=lambda rule: bool(rule["passed"]))]


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    shown = words.percent if gate_rules.is_share(rule["rule"]) else words.number
    numbers = {key: shown(rule[key]) for key in ("value", "bound")}
    return {
        **rule,
        **numbers,
        "title": gate_rules.title(rule["rule"]),
        "threshold": f"{rule['comparison']} {shown(rule['threshold'])}",
    }


def _groups(languages: Languages, metrics: Mapping[Role, Any], verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Served and transfer languages, each with its charts; the limits are the served languages' only."""
    thresholds = {rule["rule"]: rule["threshold"] for rule in verdict["rules"]}
    groups = []
    for name, title, tags in (
        ("served", "Served languages", languages.served),
        ("transfer", "Transfer languages: never trained on, not gated", languages.transfer),
    ):
        if not tags:
            continue
        drawn = []
        for rate, label in CHARTS.items():
            estimates = {
                role: {
                    tag: metrics[role]["languages"][tag][rate]
                    for tag in tags
                    if rate in metrics[role]["languages"].get(tag, {})
                }
                for role in ROLES
            }
            limit = thresholds.get(rate) if name == "served" else None
            drawn.append(charts.rate_chart(f"{name}-{rate}", label, tags, estimates, limit))
        groups.append({"name": name, "title": title, "languages": tags, "charts": drawn, "measures": MEASURES[name]})
    return groups


def _curves(paths: Paths) -> dict[str, list[Markup]]:
    """One chart per numeric column of the training log: the losses, and everything else."""
    path = paths.training / "log.csv"
    try:
        log = pd.read_csv(path)
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: run `mlc train` first") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MlcError(f"{path} is not a table ({error}): run `mlc train` again") from None
    if "step" not in log:
        raise MlcError(f"{path} has no column 'step': run `mlc train` again")
    curves: dict[str, list[Markup]] = {"main": [], "others": []}
    for number, column in enumerate(log.columns.drop("step")):
        known = log[["step", column]].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
        if known.empty:
            continue
        kind = "main" if column == "loss" or column.startswith("mlc/") else "others"
        chart = charts.line_chart(f"curve{number}", column, known["step"].tolist(), known[column].tolist())
        curves[kind].append(chart)
    return curves


def _lineage(manifest: Mapping[str, Any], registration: Mapping[str, Any]) -> dict[str, Any]:
    base, data, git = manifest["base"], manifest["data"], manifest["git"]
    return {
        "MLflow run": registration["run_id"],
        "Manifest (sha256)": registration["manifest"],
        "Git commit": git["commit"] or "none",
        "Uncommitted changes": ", ".join(git["changed"]) or "none",
        "Data (md5 in data.dvc)": data["data.dvc"] or "none",
        "Training prompts (sha256)": data["prompts"],
        "Base model": base["model"],
        "Base revision": base["revision"] or "none: a local folder",
        "dvc.lock (sha256)": manifest["dvc_lock"] or "none",
        "Python": manifest["python"],
    }


def _check_same_model(
    verdict: Mapping[str, Any], registration: Mapping[str, Any], manifest: dict[str, Any], paths: Paths
) -> None:
    """A page about two models would be worse than none."""
    digest = manifests.digest(manifest)
    if verdict["manifest"] != digest:
        raise MlcError(f"{paths.verdict} is about another model than {paths.model}: run `mlc evaluate` and `mlc gate`")
    if registration["manifest"] != digest:
        raise MlcError(f"{paths.registration} is about another model than {paths.model}: run `mlc register`")
    for role in ROLES:
        samples = paths.evaluation(role) / "samples.jsonl"
        if sha256(samples) != verdict["samples"][role]:
            raise MlcError(f"{samples} is not what {paths.verdict} judged: run `mlc gate` and `mlc register` again")


def run(languages: Languages, paths: Paths) -> None:
    """Writes the report, whole or not at all.

    Raises:
        MlcError: an input is missing or broken; the message names the command that makes it.
    """
    verdict = read_json(paths.verdict, "mlc gate")
    registration = read_json(paths.registration, "mlc register")
    manifest = manifests.read(paths.model)
    samples = {role: read_samples(paths.evaluation(role) / "samples.jsonl") for role in ROLES}
    _check_same_model(verdict, registration, manifest, paths)
    quality = read_json(paths.prompts / "metrics.json", "mlc validate")
    metrics = {role: read_json(paths.evaluation(role) / "metrics.json", f"mlc evaluate {role}") for role in ROLES}
    environment = Environment(
        loader=PackageLoader("mlc", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": words.interval,
        "language_name": language_name,
        "number": words.number,
        "percent": words.percent,
    }
    page = environment.get_template("page.html").render(
        columns=COLUMNS,
        curves=_curves(paths),
        examples=examples.choose(samples["base"], samples["candidate"], languages.all),
        groups=_groups(languages, metrics, verdict),
        headline=headline(verdict, registration),
        lineage=_lineage(manifest, registration),
        manifest=manifest,
        metrics=metrics,
        notes=_notes(verdict, registration),
        parameters={
            name: ", ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in flat(manifest["parameters"]).items()
        },
        promoted=verdict["passed"] and registration["promoted"],
        quality=quality,
        comparison=_rules(registration["comparison"]),
        rules=_rules(verdict["rules"]),
        source=languages.source,
        verdict=verdict,
    )
    write_text(paths.report / "index.html", page)
