"""Measures what each method does to embedded bases: the table of docs/embedded-results.md.

    mlc embedded base --seed 1 /tmp/base-1
    python benchmarks/embedded_results.py run WORK embedded-base --seed 0 --seed 1 --seed 2
    python benchmarks/embedded_results.py run WORK /tmp/base-1
    python benchmarks/embedded_results.py table WORK

Every cell is one run of the pipeline's own stages, judged by the default gate, on the evaluation prompts; the document
says which one setting was chosen after a look at them. What is done already is not run again.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlc import base as base_stage
from mlc.evaluation import stage as evaluation_stage
from mlc.files import read_json
from mlc.gates import stage as gate_stage
from mlc.paths import Paths
from mlc.quality import stage as quality_stage
from mlc.settings import Settings, load_settings
from mlc.training import stage as training_stage

ROOT = Path(__file__).parents[1]
app = typer.Typer()


@dataclass(frozen=True)
class Method:
    """A name for the table, and what differs from params.yaml's ``train.objective``."""

    title: str
    objective: dict[str, Any]


PUBLISHED = {
    "name": "mlc",
    "weight": 0.8,
    "every": 2,
    "layer": -1,
    "temperature": 0.2,
    "refusal_weight": 0.0,
    "retain_weight": 0.0,
}
METHODS = {
    "dpo": Method("DPO", {"weight": 0.0}),
    "published": Method("DPO + published MLC", PUBLISHED),
    "published-head": Method("DPO + published MLC, with its head", PUBLISHED | {"projection": 512}),
    "published-retain": Method("DPO + published MLC + retain", PUBLISHED | {"retain_weight": 3.0}),
    "direction": Method("DPO + direction + retain", {"refusal_weight": 0.0}),
    "openings-0.2": Method("the default with refusal openings at 0.2", {"refusal_weight": 0.2}),
    "default": Method("**the default**: direction + refusal openings + retain", {}),
}


def settings_for(method: Method, seed: int, base: Path) -> Settings:
    settings = load_settings(ROOT / "params.yaml")
    objective = settings.train.objective.model_copy(update=method.objective)
    train = settings.train.model_copy(update={"seed": seed, "objective": objective})
    start = settings.base.model_copy(update={"model": str(base.resolve())})
    return settings.model_copy(update={"train": train, "base": start})


@app.command()
def run(
    work: Path,
    base: Path,
    method: Annotated[list[str], typer.Option(help="default: all")] = list(METHODS),  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="of the alignment")] = [0],  # noqa: B006
) -> None:
    """Aligns and evaluates a base with each method and seed."""
    shared = Paths(work / base.name / "shared")
    settings = settings_for(METHODS["default"], 0, base)
    if not (shared.prompts / "metrics.json").exists():
        shared.root.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ROOT / "data", shared.data, dirs_exist_ok=True)
        quality_stage.run(settings.languages, settings.validate_, shared)
    if not (shared.evaluation("base") / "metrics.json").exists():
        base_stage.run(settings.base, shared)
        evaluation_stage.run(settings.languages, settings.evaluate, "base", shared)
    for name in method:
        for s in seed:
            paths = Paths(work / base.name / f"{name}-{s}")
            if paths.verdict.exists():
                continue
            for done in (shared.prompts, shared.base, shared.evaluation("base")):
                shutil.copytree(done, paths.root / done.relative_to(shared.root), dirs_exist_ok=True)
            settings = settings_for(METHODS[name], s, base)
            training_stage.run(settings.languages, settings.base, settings.train, paths)
            evaluation_stage.run(settings.languages, settings.evaluate, "candidate", paths)
            gate_stage.run(settings.languages, settings.evaluate.prompts, settings.gate, paths)


def _line(title: str, metrics: list[dict[str, Any]], ratios: list[float], failed: list[int] | None) -> str:
    def cell(rate: str, *which: str) -> str:
        values = [[m["served"][rate][w]["value"] for w in which] for m in metrics]
        means = " / ".join(f"{x:.2f}" for x in np.mean(values, axis=0))
        spread = f" ± {np.std(values, axis=0)[-1]:.2f}" if len(values) > 1 else ""
        return means + spread

    transfer = np.mean([m["transfer"]["safe_rate"]["mean"]["value"] for m in metrics])
    pag = np.mean([m["served"]["pag"]["value"] for m in metrics])
    gate = "" if failed is None else ", ".join("passes" if n == 0 else f"{n} rules fail" for n in failed)
    ratio = f"{max(ratios):.2f}" if ratios else ""
    return (
        f"| {title} | {cell('safe_rate', 'mean', 'worst')} | {cell('over_refusal', 'mean', 'worst')} "
        f"| {cell('fidelity', 'mean', 'worst')} | {cell('refusal_fidelity', 'mean', 'worst')} "
        f"| {cell('invalid', 'worst')} | {ratio} | {pag:.2f} | {transfer:.2f} | {gate} |"
    )


@app.command()
def table(work: Path) -> None:
    """Prints the table of everything measured so far."""
    head = (
        "safe rate, mean / worst|over-refusal, mean / worst|benign replies in the prompt's language, mean / worst"
        "|refusals in the prompt's language, mean / worst|invalid, worst|perplexity ratio, worst|PAG"
        "|safe rate, transfer|gate"
    )
    print(f"| base | method | {head.replace('|', ' | ')} |\n|{'---|' * (2 + len(head.split('|')))}")
    for base in sorted(work.iterdir()):
        baseline = Paths(base / "shared").evaluation("base") / "metrics.json"
        if not baseline.exists():
            continue
        before = read_json(baseline, "run")
        print(f"| {base.name} " + _line("base", [before], [], None))
        for name, method in METHODS.items():
            runs = [Paths(p) for p in sorted(base.glob(f"{name}-[0-9]*")) if Paths(p).verdict.exists()]
            if not runs:
                continue
            metrics = [read_json(p.evaluation("candidate") / "metrics.json", "run") for p in runs]
            verdicts = [read_json(p.verdict, "run") for p in runs]
            ratios = [r["value"] or np.inf for v in verdicts for r in v["rules"] if r["rule"] == "perplexity_ratio"]
            seeds = ", ".join(p.root.name.rpartition("-")[2] for p in runs)
            title = f"{method.title} (seed {seeds})" if len(runs) == 1 else f"{method.title} (seeds {seeds})"
            print("| " + _line(title, metrics, ratios, [len(v["failed"]) for v in verdicts]))


if __name__ == "__main__":
    app()
