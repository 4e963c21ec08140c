"""The ``mlc`` command, a file per group. Stages are imported only when they run, so that ``mlc --help`` is instant."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlc.cli import audit, data, embedded, gate, judge, model, project, quarantine, registry, stages, translate
from mlc.errors import TRANSIENT, MlcError, disk_full, is_transient, read_only
from mlc.text import one_line, without_secrets

EXIT_CODES = (
    "Exit codes: 0 done · 1 a stage failed, or a fault of mlc itself · 2 a mistake that you can mend · 3 refused by the"
    " gate · 4 prompts below the quality asked for · 5 disk full · 6 some texts were not translated · 7 a registered"
    " version is not what was registered · 75 a server was away or overloaded: the same command may work later · 130"
    " interrupted"
)


class Group(TyperGroup):
    """Flags that were not given are False: for None, as of its own --help, typer imports pydantic to convert it."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters


app = typer.Typer(
    cls=Group,
    help="Retrain a multilingual language model; register it only if it is safe in every language it serves.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(stages.app)
app.add_typer(project.app)
app.add_typer(model.app)
app.command("import", rich_help_panel="Data", epilog=data.IMPORT_EXAMPLE)(data.import_)
app.command("export", rich_help_panel="Registry", epilog="Example: mlc export 3 ./model --merged")(registry.export)
app.command("reproduce", rich_help_panel="Registry", epilog="Example: mlc reproduce 3")(registry.reproduce)
app.command("audit", rich_help_panel="Registry", epilog=audit.EXAMPLE)(audit.audit)
for group, name, panel in (
    (data.app, "data", "Data"),
    (quarantine.app, "quarantine", "Data"),
    (translate.app, "translate", "Data"),
    (gate.app, "gate", "Gate and judge"),
    (judge.app, "judge", "Gate and judge"),
    (registry.app, "registry", "Registry"),
    (embedded.app, "embedded", "Project"),
):
    app.add_typer(group, cls=Group, name=name, rich_help_panel=panel)

DEBUG = "MLC_DEBUG"  # in the environment, so that the stages that DVC starts have it too


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("mlc-pipeline"))
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG, help="show the whole stack trace of whatever goes wrong")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    os.environ[DEBUG] = "1" if debug else ""


def _unexpected(error: Exception) -> str:
    """One line about a fault of mlc's own; the whole trace goes into a file, to be sent to others."""
    import tempfile
    import traceback
    from datetime import UTC, datetime
    from pathlib import Path

    trace = without_secrets("".join([*traceback.format_exception(error), f"\n$ {' '.join(sys.argv)}\n"]))
    what = f"unexpected {type(error).__name__}: {one_line(error, 500)}"
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    # Beside the project's other caches; elsewhere, or where nothing can be written, with the temporary files.
    folders = [Path(tempfile.gettempdir())]
    if Path("params.yaml").exists():
        folders.insert(0, Path(".cache/mlc/errors"))
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"mlc-{name}"
            file.write_text(trace, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return f"{what} (the whole trace is in {file}: report this with that file to who maintains mlc-pipeline)"
    return f"{what} (report this with the trace that `mlc --debug` shows to who maintains mlc-pipeline)"


def main() -> None:
    """Runs the command line; what goes wrong is one line on stderr and an exit code, with --debug the stack trace."""
    try:
        app()
    except Exception as error:
        if os.environ.get(DEBUG):
            import traceback

            print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
        if "mlc.tracking" in sys.modules:
            error = sys.modules["mlc.tracking"].explained(error)
        if isinstance(error, MlcError):
            print(f"mlc: {without_secrets(str(error))}", file=sys.stderr)
            sys.exit(TRANSIENT if is_transient(error) else error.exit_code)
        if reason := disk_full(error):
            # Files are written aside and renamed, so nothing half-written is taken for whole.
            print(f"mlc: {reason}: free some space, then run the same command again", file=sys.stderr)
            sys.exit(5)
        if reason := read_only(error):
            print(
                f"mlc: {one_line(reason, 500)}: make it writable for this user, then run the same command again",
                file=sys.stderr,
            )
            sys.exit(2)
        if is_transient(error):
            what = f"{type(error).__name__}: {one_line(error, 500)}"
            print(f"mlc: {what} (a server was away or overloaded: run the same command again later)", file=sys.stderr)
            sys.exit(TRANSIENT)
        print(f"mlc: {_unexpected(error)}", file=sys.stderr)
        sys.exit(1)
