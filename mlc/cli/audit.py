"""``mlc audit``: is the champion still fit to serve?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mlc.cli.context import project

EXAMPLE = "Example: mlc audit --force"


def audit(
    force: Annotated[bool, typer.Option("--force", help="also where nothing has changed since the last audit")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the verdict, for programs; progress is on stderr")] = False,
) -> None:
    """Judge the champion again: on the prompts of now, by the judges and the gate of now.

    Exits with 3 when it does not pass; with audit.on_failure: rollback, it goes back to the previous champion if that
    one passes.
    """
    import contextlib
    import sys

    settings, paths = project()
    from mlc.registry import audit as stage

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        verdict = stage.run(settings, paths, force)
    if as_json:
        print(json.dumps(verdict.content(), ensure_ascii=False, indent=2))
    if not verdict.passed:
        raise typer.Exit(3)
