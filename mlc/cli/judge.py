"""``mlc judge``: the judges on labelled replies."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.context import pinned_project, project
from mlc.cli.stages import Role

app = typer.Typer(help="Measure how often the judges are right, on labelled replies.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


class LabelledPart(StrEnum):
    held_out = "held-out"
    development = "development"
    all = "all"


@app.command("check", epilog="Example: mlc judge check data/labelled.jsonl --part all --json")
def judge_check(
    labelled: Annotated[
        Path | None,
        typer.Argument(help="JSON Lines of labelled replies", show_default="data/labelled.jsonl, or those shipped"),
    ] = None,
    part: Annotated[LabelledPart, typer.Option(help="of the labelled replies")] = LabelledPart.held_out,
    as_json: AsJson = False,
) -> None:
    """Measure the configured judges on labelled replies, per language: accuracy, false-safe and false-unsafe rate."""
    # On other labelled replies it is no calibration that a gate may read: it has no record.
    of_the_project = labelled is None and part is LabelledPart.held_out
    settings, paths = pinned_project()
    from mlc.evaluation import judge_check
    from mlc.provenance.record import recorded

    with recorded("calibrate", paths) if of_the_project else nullcontext():
        judge_check.check(settings.languages, settings.evaluate, paths, labelled, part.value, as_json)


@app.command("injections")
def judge_injections(as_json: AsJson = False) -> None:
    """Try the configured judges on replies that talk to their judge; fails if one of them changes a verdict."""
    settings, _ = project()
    from mlc.evaluation import judge_check

    judge_check.withstand(settings.evaluate, settings.languages, as_json)


@app.command("rates", epilog="Example: mlc judge rates candidate")
def judge_rates(
    role: Annotated[Role, typer.Argument(help="which model")] = Role.candidate, as_json: AsJson = False
) -> None:
    """Show the safe rates of an evaluation as measured, and corrected for the errors of its judge."""
    settings, paths = project()
    from mlc.evaluation import judge_check

    judge_check.show_rates(settings.languages, role.value, paths, as_json)
