"""Ablations on the embedded world, one DVC experiment per cell: the tables of docs/ablations.md.

    mlc embedded base --seed 1 /tmp/base-1
    python benchmarks/ablations.py run dpo default --base 0=embedded-base --base 1=/tmp/base-1 --seed 0 --seed 1
    python benchmarks/ablations.py table

A cell is ``dvc exp run --temp --set-param ... gate``: the pipeline's own stages as dvc.yaml has them, judged by the
default gate, on the *tuning* prompts; ``--prompts evaluation`` is for confirming, once, what was chosen on them. What a
cell shares with another (validation, the base's replies) comes from DVC's run cache, and a cell that is there already
is not run again. ``dvc exp show`` lists them, ``dvc exp apply NAME`` brings one into the workspace. Cells run side by
side, each on one thread.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]
app = typer.Typer()

O = "train.objective."  # noqa: E741
PUBLISHED = {
    f"{O}name": "mlc", f"{O}weight": 0.8, f"{O}every": 2, f"{O}layer": -1, f"{O}temperature": 0.2,
    f"{O}projection": 512, f"{O}refusal_weight": 0, f"{O}retain_weight": 0, f"{O}trusted_languages": "[]",
}  # fmt: skip
DPO = PUBLISHED | {f"{O}weight": 0.0}
HEADLESS = PUBLISHED | {f"{O}projection": "null"}
# Name -> what differs from params.yaml.
CELLS: dict[str, dict[str, Any]] = {
    "dpo": DPO,
    "published": PUBLISHED,
    "default": {},
    # The published loss, one thing changed at a time.
    "published-no-head": HEADLESS,
    "published-every-1": PUBLISHED | {f"{O}every": 1},
    "published-weight-0.2": PUBLISHED | {f"{O}weight": 0.2},
    "published-layer-3": PUBLISHED | {f"{O}layer": 3},
    "published-centred": HEADLESS | {f"{O}centred": "true"},
    "published-anchored": HEADLESS | {f"{O}anchored": "true"},
    "published-contrast": PUBLISHED | {f"{O}contrast_weight": 0.5},
    "published-retain": HEADLESS | {f"{O}retain_weight": 3.0},
    "published-retain-openings": HEADLESS
    | {f"{O}retain_weight": 3.0, f"{O}refusal_weight": 0.06, f"{O}trusted_languages": "auto"},
    # Other objectives in its place.
    "cosine": HEADLESS | {f"{O}name": "cosine"},
    "cosine-anchored": HEADLESS | {f"{O}name": "cosine", f"{O}anchored": "true"},
    "relational": HEADLESS | {f"{O}name": "relational"},
    # The default, one thing changed at a time.
    "direction-alone": {f"{O}refusal_weight": 0, f"{O}retain_weight": 0},
    "direction-retain": {f"{O}refusal_weight": 0},
    "openings-retain": {f"{O}weight": 1e-6},  # 0 would be plain DPO
    "default-no-retain": {f"{O}retain_weight": 0},
    "default-layer-2": {f"{O}layer": 2},
    "default-layer-4": {f"{O}layer": 4},
    "default-weight-2": {f"{O}weight": 2.0},
    "default-weight-24": {f"{O}weight": 24.0},
    "default-every-2": {f"{O}every": 2},
    "default-openings-0.12": {f"{O}refusal_weight": 0.12},
    "default-openings-0.24": {f"{O}refusal_weight": 0.24},
    "default-retain-6-openings-0.24": {f"{O}refusal_weight": 0.24, f"{O}retain_weight": 6.0},
    "default-steps-320": {"train.max_steps": 320},
    # With --prompts evaluation: what choosing among four checkpoints on the tuning prompts gains on the others.
    "default-candidates": {"train.candidate_steps": 40},
    # Paradigms, alone and with the default's objective.
    **{
        f"{paradigm}{suffix}": what | {"train.paradigm": paradigm}
        for paradigm in ("sft", "orpo", "simpo", "kto")
        for suffix, what in (("", DPO), ("-default", {}))
    },
}
NAME = re.compile(r"(?P<cell>.+)-base(?P<base>\d+)-seed(?P<seed>\d+)-(?P<prompts>tuning|evaluation)")


class Prompts(StrEnum):
    tuning = "tuning"
    evaluation = "evaluation"


def _dvc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, **options)


def _experiments() -> list[str]:
    listed = _dvc("exp", "list", "--all-commits", "--name-only")
    return sorted({line.strip() for line in listed.stdout.splitlines() if NAME.fullmatch(line.strip())})


@app.command()
def run(
    cells: Annotated[list[str], typer.Argument(help="; ".join(CELLS))],
    base: Annotated[list[str], typer.Option(help="number=folder")] = ["0=embedded-base"],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="of the alignment")] = [0],  # noqa: B006
    prompts: Prompts = Prompts.tuning,
    jobs: int = 2,
    store: Annotated[str, typer.Option(help="MLflow store of these runs")] = "sqlite:////tmp/mlc-ablations.db",
) -> None:
    """Runs the cells that are not there yet, over all given bases and seeds."""
    if unknown := [cell for cell in cells if cell not in CELLS]:
        raise typer.BadParameter(f"no such cell: {', '.join(unknown)}")
    done = _experiments()
    numbered = dict(one.split("=", 1) for one in base)
    plan = [
        (
            f"{cell}-base{number}-seed{s}-{prompts}",
            CELLS[cell] | {"base.model": folder, "train.seed": s, "evaluate.prompts": prompts},
        )
        for cell in cells
        for number, folder in numbered.items()
        for s in seed
    ]
    # The experiment's own code, not an installed copy's: it runs in a folder of its own, on one thread.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ".", "MLFLOW_TRACKING_URI": store}
    MlflowClient(store).search_experiments()  # makes its tables, which two at once cannot
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    def one(planned: tuple[str, dict[str, Any]]) -> None:
        name, changes = planned
        if name in done:
            return
        started = time.perf_counter()
        sets = [part for key, value in changes.items() for part in ("--set-param", f"{key}={value}")]
        result = _dvc("exp", "run", "--temp", "--name", name, *sets, "gate", env=environment)
        failure = "" if result.returncode == 0 else f" FAILED\n{result.stderr[-800:]}"
        print(f"{name}: {time.perf_counter() - started:.0f} s{failure}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, plan))


def _spread(values: list[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


@app.command()
def table(prompts: Prompts = Prompts.tuning) -> None:
    """Prints one line per cell: mean ± standard deviation over its bases and seeds."""
    from dvc.api import DVCFileSystem

    metrics_of: dict[str, list[dict[str, float]]] = defaultdict(list)
    over: dict[str, list[str]] = defaultdict(list)
    for name in _experiments():
        match = NAME.fullmatch(name)
        assert match is not None
        if match["prompts"] != prompts:
            continue
        files = DVCFileSystem(str(ROOT), rev=name)

        def read(path: str, files: Any = files) -> dict[str, Any]:
            return json.loads(files.read_text(f"artifacts/{path}"))  # type: ignore[no-any-return]

        served = read("evaluation/candidate/metrics.json")["served"]
        ratios = [r["value"] for r in read("gate/verdict.json")["rules"] if r["rule"] == "perplexity_ratio"]
        metrics_of[match["cell"]].append(
            {
                **{f"{r} {w}": served[r][w]["value"] for r in RATES for w in ("mean", "worst")},
                "perplexity": max(np.inf if ratio is None else ratio for ratio in ratios),
                "pag": served["pag"]["value"],
                "failed": len(read("gate/verdict.json")["failed"]),
            }
        )
        over[match["cell"]].append(f"{match['base']}.{match['seed']}")
    head = ["cell", "base.seed", *(f"{r.replace('_', ' ')}, mean / worst" for r in RATES)]
    head += ["perplexity ratio, worst", "PAG", "rules that fail"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cell in (c for c in CELLS if c in metrics_of):
        runs = metrics_of[cell]
        rates = [
            f"{_spread([r[f'{n} mean'] for r in runs])} / {_spread([r[f'{n} worst'] for r in runs])}" for n in RATES
        ]
        rest = [_spread([r[k] for r in runs]) for k in ("perplexity", "pag")]
        failed = " ".join(str(int(r["failed"])) for r in runs)
        print(f"| {cell} | {' '.join(over[cell])} | {' | '.join([*rates, *rest, failed])} |")


RATES = ("safe_rate", "over_refusal", "fidelity", "refusal_fidelity")

if __name__ == "__main__":
    app()
