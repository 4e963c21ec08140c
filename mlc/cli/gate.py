"""``mlc gate``: the candidate before its rules."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mlc.cli.context import pinned_project, project, recorded_stage

app = typer.Typer(help="Judge the candidate by the rules of params.yaml; see what they take, and why it failed.")


@app.callback(invoke_without_command=True)
def gate_run(context: typer.Context) -> None:
    """Judge the candidate's evaluation by the rules of params.yaml and write the verdict; or show what it takes."""
    if context.invoked_subcommand is None:
        with recorded_stage("gate") as (settings, paths):
            from mlc.gates import stage

            evaluate = settings.evaluate
            stage.run(settings.languages, evaluate.prompts, settings.gate, evaluate.judges, paths)


@app.command("check")
def gate_check() -> None:
    """Make sure that some candidate can pass with the evaluation prompts there are, before one is trained."""
    settings, paths = pinned_project()
    from mlc.gates import licences, power

    licences.check(settings, paths)
    candidate_steps = settings.train.candidate_steps
    power.check(settings.languages, settings.evaluate.prompts, settings.gate, paths, candidate_steps)


@app.command("plan", epilog="Example: mlc gate plan --true-rate 0.97")
def gate_plan(
    true_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="of a candidate", show_default="from good to faultless")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show how many prompts per language each rule needs, and what those there are can show."""
    settings, paths = project()
    from mlc.gates import licences, power

    margin = settings.register_.margin
    plan = power.plan(settings.languages, settings.evaluate.prompts, settings.gate, margin, true_rate, paths)
    plan["cannot_pass"] += licences.cannot_pass(settings, paths)
    print(json.dumps(plan, indent=2) if as_json else power.render_text(plan))


@app.command("explain", epilog="Example: mlc gate explain sw")
def gate_explain(
    language: Annotated[str | None, typer.Argument(help="such as sw", show_default="all languages")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show the verdict with every number that led to it."""
    from mlc.gates import explain
    from mlc.paths import Paths

    explain.show(language, Paths(), as_json)
