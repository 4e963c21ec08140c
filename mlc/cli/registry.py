"""``mlc registry``: versions, aliases and their ledger."""

from __future__ import annotations

import typer

from mlc.cli.project import project

app = typer.Typer(help="Look at the model registry, and go back to the previous champion.", no_args_is_help=True)


@app.command("list")
def registry_list() -> None:
    """Show the versions with their aliases, and the ledger of every alias move."""
    from mlc import ledger

    settings, paths = project()
    ledger.show(paths, settings.register_.model_name)


@app.command("rollback")
def registry_rollback() -> None:
    """Make the previous champion champion again."""
    from mlc import ledger

    settings, paths = project()
    ledger.rollback(paths, settings.register_.model_name)
