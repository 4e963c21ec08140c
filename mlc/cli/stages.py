"""Commands that run a stage, or all of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.project import project

app = typer.Typer()


class Role(StrEnum):
    base = "base"
    candidate = "candidate"


class Evaluated(StrEnum):
    base = "base"
    candidate = "candidate"
    tuning = "tuning"


@app.command()
def validate() -> None:
    """Check the prompt sets' translations; write clean prompts, quarantine, metrics and Data Docs."""
    from mlc.quality import stage

    settings, paths = project()
    stage.run(settings.languages, settings.validate_, paths)


@app.command()
def base() -> None:
    """Put the base model in place: a local folder, or a pinned revision of the hub."""
    from mlc import base as stage

    settings, paths = project()
    stage.run(settings.base, paths)


@app.command()
def trust() -> None:
    """Write down the languages in which the base is already safe: those named, or (auto) those measured."""
    from mlc import trust as stage

    settings, paths = project()
    objective = settings.train.objective
    stage.run(settings.languages, objective.trusted_languages, settings.evaluate, settings.gate, paths)


@app.command()
def train() -> None:
    """Align the base with the consistency objective; resumes from a checkpoint after an interruption.

    Makes a candidate of every train.candidate_steps-th step, or of the last alone; mlc select takes one of them.
    """
    from mlc.training import stage

    settings, paths = project()
    stage.run(settings.languages, settings.base, settings.train, paths)


@app.command()
def evaluate(which: Annotated[Evaluated, typer.Argument(help="which model, or tuning")]) -> None:
    """Generate and judge replies of the base or the candidate, in every language.

    tuning: of the base and every candidate to the tuning prompts, which mlc select chooses by.
    """
    from mlc.evaluation import stage, tuning

    settings, paths = project()
    if which is Evaluated.tuning:
        tuning.run(settings.languages, settings.evaluate, paths)
    else:
        stage.run(settings.languages, settings.evaluate, "base" if which is Evaluated.base else "candidate", paths)


@app.command()
def select() -> None:
    """Take the best of the candidates by the gate's rules on the tuning prompts; the gate then judges it on others."""
    from mlc.gates import selection

    settings, paths = project()
    selection.run(settings.languages, settings.gate, paths)


@app.command()
def diagnose() -> None:
    """Measure what training did to the representations: languages brought together, or everything collapsed."""
    from mlc.evaluation import diagnostics

    settings, paths = project()
    diagnostics.run(settings.languages, settings.evaluate, settings.train.objective.layer, paths)


@app.command()
def register() -> None:
    """Register the candidate if its verdict passes, and promote it if it is better than the champion."""
    from mlc import registry

    settings, paths = project()
    registry.run(settings.languages, settings.register_, paths)


@app.command()
def report() -> None:
    """Write the page that shows what happened and why."""
    from mlc.report import stage

    settings, paths = project()
    stage.run(settings.languages, paths)


@app.command()
def run() -> None:
    """Run the whole pipeline as a Prefect flow: what is up to date is not run again."""
    from flows.retrain import main as retrain

    raise typer.Exit(retrain())


@app.command()
def configure(recipe: Annotated[Path, typer.Argument(help="such as recipes/qwen2.5-7b-published.yaml")]) -> None:
    """Write a recipe's settings over those in params.yaml."""
    from mlc.paths import Paths
    from mlc.settings import overlay

    overlay(Paths().params, recipe)
