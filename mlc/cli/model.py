"""``mlc chat`` and ``mlc compare``: what a model says, and how two differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.context import project
from mlc.errors import MlcError

app = typer.Typer()
PANEL = "Model"


@app.command(rich_help_panel=PANEL, epilog="Example: echo 'Ninawezaje kupika wali?' | mlc chat --compare base")
def chat(
    model: Annotated[
        str, typer.Option(help="champion or another alias, a version, base, candidate, or a folder")
    ] = "champion",
    compare: Annotated[str | None, typer.Option(help="a second model, whose replies are shown beside")] = None,
    language: Annotated[str | None, typer.Option(help="tag of a language: says so where a reply is in another")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="of a reply", show_default="evaluate.max_new_tokens")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a turn")] = False,
) -> None:
    """Talk to a registered model, in any language. Piped, a line is a turn of one conversation."""
    settings, paths = project()
    from mlc import chat as conversation

    names = [model, compare] if compare else [model]
    tokens = max_new_tokens or settings.evaluate.max_new_tokens
    conversation.run(names, settings, language, tokens, as_json, paths)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: mlc compare 3 4; mlc compare main HEAD --markdown; mlc compare HEAD my-experiment --json",
)
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="a version of the registry, a git revision or experiment")],
    after: Annotated[str, typer.Argument(metavar="B", help="likewise; workspace is what lies here")] = "workspace",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="for a comment on a pull request")] = False,
    html: Annotated[Path | None, typer.Option(help="write it as a page, with charts, into this file")] = None,
) -> None:
    """Show what changed from A to B: data, settings, verdict and, on the same prompts, the rates of each language."""
    if as_json + markdown + (html is not None) > 1:
        raise MlcError("give one of --json, --markdown and --html")
    settings, paths = project()
    from mlc.compare import difference as comparison

    compared = comparison.compare(before, after, settings.register_.model_name, paths)
    if html is not None:
        from mlc.compare.page import page
        from mlc.files import write_text

        write_text(html, page(compared))
        print(f"the comparison is in {html}")
    elif as_json:
        print(compared.model_dump_json(indent=2))
    else:
        print(comparison.render_markdown(compared) if markdown else comparison.render_text(compared))
