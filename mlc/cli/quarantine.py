"""``mlc quarantine``: prompts and replies that the checks hold back."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.context import project
from mlc.errors import MlcError

app = typer.Typer(help="Look at the texts in quarantine; release them, or fix them.", no_args_is_help=True)


class PromptSet(StrEnum):
    alignment = "alignment"
    tuning = "tuning"
    evaluation = "evaluation"


class Part(StrEnum):
    prompt = "prompt"
    chosen = "chosen"
    rejected = "rejected"
    reference = "reference"


InSet = Annotated[PromptSet, typer.Argument(metavar="SET", help="alignment, tuning or evaluation")]
RowId = Annotated[str, typer.Argument(metavar="ID", help="of the row")]
InLanguage = Annotated[str, typer.Argument(metavar="LANGUAGE", help="such as sw")]
Why = Annotated[str, typer.Option(help="kept with the data, and shown in the datacard")]
OfPart = Annotated[Part, typer.Option("--part", help="of the row: its prompt, or one of its replies")]
Who = Annotated[str | None, typer.Option(help="who decides it", show_default="git's user.name")]


@app.command("list", epilog="Example: mlc quarantine list --set evaluation --language sw --check untranslated")
def quarantine_list(
    name: Annotated[PromptSet | None, typer.Option("--set", help="of this set alone")] = None,
    language: Annotated[str | None, typer.Option(help="in this language alone")] = None,
    check: Annotated[str | None, typer.Option(help="that failed this check, such as untranslated")] = None,
    part: Annotated[list[Part] | None, typer.Option(help="prompts or replies of this kind alone; repeatable")] = None,
    limit: Annotated[int, typer.Option(min=0, help="texts shown one by one")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="all of them, one JSON object a line")] = False,
) -> None:
    """Show what is in quarantine, and for which checks."""
    from mlc.paths import Paths
    from mlc.quality import quarantine_list

    quarantine_list.show_list(Paths(), name and name.value, language, check, limit, as_json, part or [])


@app.command("show", epilog="Example: mlc quarantine show evaluation steal-laptop-20")
def quarantine_show(
    name: InSet,
    row_id: RowId,
    language: Annotated[str | None, typer.Option(help="this text alone, with its source text")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show a whole row: its texts, what the checks found, and what people decided."""
    settings, paths = project()
    from mlc.quality import quarantine_view

    row = quarantine_view.describe(paths, name.value, row_id, settings.languages.source, language)
    # ASCII: hostile texts do nothing on a terminal.
    print(json.dumps(row, indent=2) if as_json else quarantine_view.render_text(row))


@app.command("release", epilog="Example: mlc quarantine release evaluation steal-laptop-20 sw --why 'a loan word'")
def quarantine_release(
    name: InSet, row_id: RowId, language: InLanguage, why: Why, part: OfPart = Part.prompt, who: Who = None
) -> None:
    """Let a text pass the checks that hold it, as long as it and its row's source text stay as they are."""
    from mlc.paths import Paths
    from mlc.quality import quarantine_edit
    from mlc.quality.decisions import key_of

    quarantine_edit.release(Paths(), key_of(name.value, row_id, language, part.value), why, who)


@app.command("release-kind", epilog="Example: mlc quarantine release-kind localised_amount --why 'prices are local'")
def quarantine_release_kind(
    check: Annotated[str, typer.Argument(metavar="CHECK", help="localised_amount")],
    why: Why,
    name: Annotated[PromptSet | None, typer.Option("--set", help="in this set alone")] = None,
    language: Annotated[str | None, typer.Option(help="in this language alone")] = None,
    who: Who = None,
) -> None:
    """Let all variants pass that fail one check which may be right in many texts alike."""
    from mlc.paths import Paths
    from mlc.quality import quarantine_edit

    quarantine_edit.release_kind(Paths(), check, why, who, name and name.value, language)


@app.command("fix", epilog="Example: mlc quarantine fix evaluation steal-laptop-20 sw --text '…' --why 'was cut off'")
def quarantine_fix(
    name: InSet,
    row_id: RowId,
    language: InLanguage,
    why: Why,
    text: Annotated[str | None, typer.Option(help="the right text")] = None,
    file: Annotated[Path | None, typer.Option(help="or a UTF-8 file that holds it")] = None,
    part: OfPart = Part.prompt,
    who: Who = None,
) -> None:
    """Replace a text in the data, or add a missing one; the text before is kept."""
    from mlc.paths import Paths
    from mlc.quality import quarantine_edit
    from mlc.quality.decisions import key_of

    if (text is None) == (file is None):
        raise MlcError("give the right text with --text, or a file that holds it with --file")
    right = text if text is not None else quarantine_edit.read_text(file or Path())
    if part in (Part.chosen, Part.rejected) and language != (source := project()[0].languages.source):
        raise MlcError(f"chosen and rejected replies are in the source language: write {source}, not {language}")
    quarantine_edit.fix(Paths(), key_of(name.value, row_id, language, part.value), right, why, who)
