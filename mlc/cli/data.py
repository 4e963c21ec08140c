"""``mlc import`` and ``mlc data``: prompt sets and their history."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.context import checked_licence, project

IMPORT_EXAMPLE = "Example: mlc import recipes/imports/table.yaml requests.csv --into data/evaluation.jsonl"


class Intended(StrEnum):
    """What all requests of a set are."""

    harmful = "harmful"
    benign = "benign"


app = typer.Typer(help="Look at the prompt sets and their history.", no_args_is_help=True)


def import_(
    layout: Annotated[
        str,
        typer.Argument(
            help="pku-saferlhf, mlc-authors, multijail, polyrefuse, xstest; pairs: sharegpt, alpaca, trl, hh; or a "
            "mapping file (*.yaml)"
        ),
    ],
    source: Annotated[str, typer.Argument(help="a file, a folder, or a data set of the hub")],
    into: Annotated[Path, typer.Option(help="prompt set to add to, such as data/evaluation.jsonl")],
    source_language: Annotated[
        str | None,
        typer.Option(
            help="tag of the language that has replies, and that texts are in whose layout names none; "
            "languages.source of params.yaml by default"
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="kept with every row; for a hub set its commit, which is then loaded")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(callback=checked_licence, help="SPDX identifier, where the publisher's is not known"),
    ] = None,
    intent: Annotated[
        Intended | None, typer.Option(help="of all requests, for the layouts of pairs, which do not say it")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="of the data set, for the layouts of pairs; the file's name by default")
    ] = None,
    config: Annotated[str | None, typer.Option(help="configuration of a hub set, such as alpaca3-8b")] = None,
    split: Annotated[str | None, typer.Option(help="where the set is published in splits")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="read this many records at most")] = None,
    write_changes: Annotated[
        bool, typer.Option("--write-changes", help="also write rows that changed at the source")
    ] = False,
    left_out: Annotated[Path | None, typer.Option(help="write the records left out to this file, as JSONL")] = None,
) -> None:
    """Add a published data set to a prompt set. Importing again adds nothing, and shows what changed at the source."""
    language = source_language or project()[0].languages.source
    from mlc.prompts.importers import stage
    from mlc.prompts.importers.records import Source

    given = Source(source, revision, config, split, intent=intent.value if intent else None)
    stage.run(layout, given, into, language, licence, limit, write_changes, left_out, name)


@app.command("diff", epilog="Example: mlc data diff HEAD~1 --texts")
def data_diff(
    revision: Annotated[str, typer.Argument(help="git revision, such as HEAD or a tag")],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="every row's id with its old and new texts")] = False,
) -> None:
    """Show what was added, removed and changed in the prompt sets since a git revision, per language."""
    from mlc.paths import Paths
    from mlc.prompts import diff

    diff.run(Paths(), revision, as_json, texts)
