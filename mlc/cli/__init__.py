"""The ``mlc`` command, a file per group. Stages are imported only when they run, so that ``mlc --help`` is instant."""

from __future__ import annotations

import errno
import os
import sys

import typer

from mlc.cli import data, embedded, gate, judge, quarantine, registry, stages, translate
from mlc.errors import MlcError

app = typer.Typer(
    help="Retrain a multilingual language model; register it only if it is safe in every language it serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(stages.app)
app.command("import")(data.import_)
app.add_typer(gate.app, name="gate")
app.add_typer(judge.app, name="judge")
app.add_typer(registry.app, name="registry")
app.add_typer(data.app, name="data")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(translate.app, name="translate")
app.add_typer(embedded.app, name="embedded")

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Runs the command line; a mistake of the user's is one line on stderr and its exit code, not a stack trace."""
    try:
        app()
    except MlcError as error:
        print(f"mlc: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # Files are written aside and renamed, so nothing half-written is taken for whole.
        print(f"mlc: {os.strerror(error.errno)}: free some space, then run the same command again", file=sys.stderr)
        sys.exit(5)
