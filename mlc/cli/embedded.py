"""``mlc embedded``: the offline default, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Rebuild the offline default: its prompt sets and its base model.", no_args_is_help=True)


@app.command("prompts")
def embedded_prompts(folder: Annotated[Path, typer.Argument(help="where to write them")] = Path("data")) -> None:
    """Write the prompt sets of the embedded world."""
    from mlc.embedded.prompts import write

    write(folder)


@app.command("base")
def embedded_base(
    folder: Annotated[Path, typer.Argument(help="where to write the model")] = Path("embedded-base"),
    seed: Annotated[int, typer.Option(help="of weights and samples; 0 is the shipped base")] = 0,
) -> None:
    """Train the embedded base model from scratch (minutes on two cores)."""
    from mlc.embedded.base import build

    build(folder, seed)
