"""Commands that run a stage, or all of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mlc.cli.context import pinned_project, project, recorded_stage

app = typer.Typer()
RUN = "Run"  # the panel of --help


class Role(StrEnum):
    base = "base"
    candidate = "candidate"


class Evaluated(StrEnum):
    base = "base"
    candidate = "candidate"
    tuning = "tuning"


@app.command(rich_help_panel=RUN)
def validate() -> None:
    """Check the prompt sets' translations; write clean prompts, quarantine, metrics and Data Docs."""
    with recorded_stage("validate") as (settings, paths):
        from mlc.quality import stage

        stage.run(settings.languages, settings.validate_, paths)


@app.command(rich_help_panel=RUN)
def base() -> None:
    """Put the base model in place: a local folder, or a pinned revision of the hub."""
    with recorded_stage("base") as (settings, paths):
        from mlc.models import stage

        stage.run(settings.base, paths)


@app.command("trusted-languages", rich_help_panel=RUN)
def trusted_languages() -> None:
    """Write down the languages in which the base is already safe: those named, or (auto) those measured."""
    with recorded_stage("trusted_languages") as (settings, paths):
        from mlc.gates import trusted_languages as stage

        objective = settings.train.objective
        stage.run(settings.languages, objective.trusted_languages, settings.evaluate, settings.gate, paths)


@app.command(rich_help_panel=RUN)
def train() -> None:
    """Align the base with the consistency objective; resumes from a checkpoint after an interruption.

    Makes a candidate of every train.candidate_steps-th step, or of the last alone; mlc select takes one of them.
    """
    with recorded_stage("train") as (settings, paths):
        from mlc.training import stage

        stage.run(settings.languages, settings.base, settings.train, paths)


@app.command(rich_help_panel=RUN, epilog="Example: mlc evaluate candidate")
def evaluate(which: Annotated[Evaluated, typer.Argument(help="which model, or tuning")]) -> None:
    """Generate and judge replies of the base or the candidate, in every language.

    tuning: of the base and every candidate to the tuning prompts, which mlc select chooses by.
    """
    with recorded_stage(f"evaluate_{which.value}") as (settings, paths):
        from mlc.evaluation import stage, tuning

        if which is Evaluated.tuning:
            tuning.run(settings.languages, settings.evaluate, paths)
        else:
            stage.run(settings.languages, settings.evaluate, "base" if which is Evaluated.base else "candidate", paths)


@app.command(rich_help_panel=RUN)
def metrics() -> None:
    """Compute the metrics of base and candidate from their sample lines, with an interval each."""
    settings, paths = pinned_project()
    from mlc.evaluation import metrics_stage as stage

    stage.run(settings.languages, paths)


@app.command(rich_help_panel=RUN)
def select() -> None:
    """Take the best of the candidates by the gate's rules on the tuning prompts; the gate then judges it on others."""
    with recorded_stage("select") as (settings, paths):
        from mlc.gates import select as stage

        stage.run(settings.languages, settings.gate, paths)


@app.command(rich_help_panel=RUN)
def tasks() -> None:
    """Ask base and candidate the multiple-choice tasks of lm-evaluation-harness that params.yaml names, if any."""
    with recorded_stage("tasks") as (settings, paths):
        from mlc.evaluation import lm_eval_tasks

        lm_eval_tasks.run(settings.languages, settings.tasks, settings.evaluate, paths)


@app.command(rich_help_panel=RUN)
def diagnose() -> None:
    """Measure what training did to the representations: languages brought together, or everything collapsed."""
    settings, paths = pinned_project()
    from mlc.evaluation import diagnostics

    diagnostics.run(settings.languages, settings.evaluate, settings.train.objective.layer, paths)


@app.command(rich_help_panel=RUN)
def register() -> None:
    """Register the candidate if its verdict passes, and promote it if it is better than the champion."""
    settings, paths = pinned_project()
    from mlc.registry import stage

    stage.run(settings, paths)


@app.command(rich_help_panel=RUN)
def report() -> None:
    """Write the page that shows what happened and why."""
    settings, paths = pinned_project()
    from mlc.report import stage

    stage.run(settings.languages, paths)


@app.command(rich_help_panel=RUN, epilog="Example: mlc run || mlc gate explain")
def run() -> None:
    """Run the whole pipeline as a Prefect flow: what is up to date is not run again."""
    project()
    from flows.retrain import main as retrain

    raise typer.Exit(retrain())
