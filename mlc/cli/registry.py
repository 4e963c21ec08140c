"""``mlc registry``: versions, aliases and their ledger; and what is done with a version: ``export``, ``reproduce``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mlc.cli.context import project

app = typer.Typer(help="Look at the model registry, and decide what is champion.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(help="a version, such as 3, or an alias: champion, previous, candidate")]
Version = Annotated[str, typer.Argument(help="a version, such as 3")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]
Why = Annotated[str, typer.Option(help="for the ledger")]


def _say(result: Mapping[str, Any], as_json: bool, words: str) -> None:
    print(json.dumps(result, ensure_ascii=False, indent=2) if as_json else words)


def _moved(words: str, as_json: bool) -> None:
    """What a move did, and where the aliases are now."""
    settings, paths = project()
    from mlc.registry.model import RegisteredModel

    aliases = RegisteredModel(paths, settings.register_.model_name).aliases()
    _say({"result": words, "aliases": aliases}, as_json, f"registry: {words}")


@app.command("list")
def registry_list(as_json: AsJson = False) -> None:
    """Show the versions with their aliases, and the ledger of every alias move."""
    settings, paths = project()
    from mlc.registry.ledger import described
    from mlc.registry.lineage import summary
    from mlc.registry.model import RegisteredModel

    model = RegisteredModel(paths, settings.register_.model_name)
    aliases = model.aliases()
    versions = [summary(version, aliases) for version in model.versions()]
    ledger = model.ledger()
    lines = [
        f"version {v['version']:>3}  {v['created']}  commit {v['git_commit'][:12]}, data {v['data'][:12]}"
        f"  {', '.join(v['aliases'])}".rstrip()
        for v in versions
    ]
    words = (
        "\n".join([*lines, *map(described, ledger)]) or f"{model.name} has no versions yet: `mlc register` makes them"
    )
    _say({"model": model.name, "versions": versions, "ledger": ledger}, as_json, words)


@app.command("show")
def registry_show(which: Which, as_json: AsJson = False) -> None:
    """Show a version: its aliases, verdict, and the moves that it was part of."""
    settings, paths = project()
    from mlc.registry.ledger import described
    from mlc.registry.lineage import lineage

    found = lineage(paths, settings.register_.model_name, which)
    gate = f"{'passed' if found['gate']['passed'] else 'failed'} {found['gate']['rules']} rules"
    words = [
        f"version {found['version']} of {found['model']}: {', '.join(found['aliases']) or 'no alias'}",
        f"created   {found['created']}, commit {found['commit'][:12]}, run {found['run']}",
        f"manifest  {found['manifest']}",
        f"verdict   {gate}, sha256 {found['verdict']}",
        *map(described, found["ledger"]),
    ]
    parts = ("model", "version", "aliases", "created", "run", "commit", "manifest", "verdict", "gate", "ledger")
    _say({part: found[part] for part in parts}, as_json, "\n".join(words))


@app.command("lineage")
def registry_lineage(which: Which, as_json: AsJson = False) -> None:
    """Show all that a version was made from and judged by, and the commands that make it again."""
    settings, paths = project()
    from mlc.registry.lineage import lineage
    from mlc.settings import flat

    found = lineage(paths, settings.register_.model_name, which)
    facts = {key: value for key, value in found.items() if key not in ("ledger", "rebuild")}
    lines = [f"{key:<45} {value}" for key, value in flat(facts).items()]
    again = f"Make it again, and compare: mlc reproduce {found['version']}; or by hand:"
    _say(found, as_json, "\n".join([*lines, "", again, *(f"  {command}" for command in found["rebuild"])]))


@app.command("verify", epilog="Example: mlc registry verify all. Exit code 7 where something differs.")
def registry_verify(
    which: Annotated[str, typer.Argument(help="a version, an alias, or all")] = "champion", as_json: AsJson = False
) -> None:
    """Hash the files of versions again, and check them, their verdicts and the ledger against what was registered."""
    settings, paths = project()
    from mlc.errors import IntegrityError, MlcError
    from mlc.registry.model import RegisteredModel
    from mlc.registry.verify import differences, fetched

    model = RegisteredModel(paths, settings.register_.model_name)
    versions = model.versions() if which == "all" else [model.version(which)]
    found: dict[str, list[str]] = {}
    for version in (str(version.version) for version in versions):
        try:
            with fetched(model, version) as folder:
                found[f"version {version}"] = differences(model, version, folder)
        except MlcError as error:
            found[f"version {version}"] = [str(error)]
    found["ledger"] = model.faults()
    lines = [f"{what}: {'; '.join(wrong) or 'OK'}" for what, wrong in found.items()]
    _say({"ok": not any(found.values()), "differences": found}, as_json, "\n".join(lines))
    if any(found.values()):
        raise typer.Exit(IntegrityError.exit_code)


@app.command("ledger", epilog="Keep an export elsewhere: it shows if the last entries are taken out of the registry.")
def registry_ledger(
    export: Annotated[Path | None, typer.Option(help="a file to write, one entry a line")] = None,
    against: Annotated[Path | None, typer.Option(help="an exported file that the ledger has to begin with")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who moved which alias when and why, or write it into a file."""
    settings, paths = project()
    from mlc.errors import IntegrityError
    from mlc.files import write_jsonl
    from mlc.registry.ledger import begins_with, described
    from mlc.registry.model import RegisteredModel

    model = RegisteredModel(paths, settings.register_.model_name)
    entries = model.ledger()
    if against is not None and not begins_with(entries, against):
        raise IntegrityError(
            f"the ledger of {model.name} does not begin with {against}: entries were changed or removed"
        )
    if export is not None:
        write_jsonl(export, entries)
    _say({"model": model.name, "ledger": entries}, as_json, "\n".join(map(described, entries)))


@app.command("promote", epilog="Example: mlc registry promote 3 --why 'version 4 is slow to answer in Swahili'")
def registry_promote(version: Version, why: Why = "", as_json: AsJson = False) -> None:
    """Make a version champion, verified first; one that lost to the champion, with --why alone."""
    settings, paths = project()
    from mlc.registry import ledger, promotion

    _moved(promotion.promote(paths, settings, version, ledger.who(paths.root), why), as_json)


@app.command("rollback")
def registry_rollback(why: Why = "", as_json: AsJson = False) -> None:
    """Make the previous champion champion again, verified first."""
    settings, paths = project()
    from mlc.registry import ledger, promotion

    _moved(promotion.rollback(paths, settings, ledger.who(paths.root), why), as_json)


@app.command("approve")
def registry_approve(version: Version, why: Why, as_json: AsJson = False) -> None:
    """Promote the candidate that waits for approval, after checking everything again."""
    settings, paths = project()
    from mlc.registry import ledger, promotion

    _moved(promotion.approve(paths, settings, version, ledger.who(paths.root), why), as_json)


@app.command("reject")
def registry_reject(version: Version, why: Why, as_json: AsJson = False) -> None:
    """Write down that a version is never to be promoted."""
    settings, paths = project()
    from mlc.registry import ledger, promotion

    _moved(promotion.reject(paths, settings, version, ledger.who(paths.root), why), as_json)


def export(
    which: Which,
    folder: Annotated[Path, typer.Argument(help="a new folder")],
    merged: Annotated[bool, typer.Option("--merged", help="an adapter put into its base")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a registered version as a plain Hugging Face folder, for transformers or vLLM."""
    settings, paths = project()
    from mlc.registry.export import export

    words = export(paths, settings.register_.model_name, which, folder, merged)
    _say({"folder": str(folder), "result": words}, as_json, f"export: {words}")


def reproduce(
    which: Which,
    into: Annotated[Path | None, typer.Option(help="a new folder, which stays", show_default="a temporary one")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline again as it was for a version, in a git worktree, and compare weights and metrics."""
    settings, paths = project()
    from mlc.errors import IntegrityError
    from mlc.registry.reproduce import reproduce

    found = reproduce(paths, settings.register_.model_name, which, into)
    lines = [f"reproduce: version {found['version']} of {found['model']}: {'equal' if found['equal'] else 'not equal'}"]
    lines += [f"  {difference}" for difference in found["differences"]]
    lines += [f"  other library: {library}" for library in found["libraries"]]
    lines += [f"  git worktree remove --force {found['folder']}: removes it"] if found["folder"] else []
    _say(found, as_json, "\n".join(lines))
    if not found["equal"]:
        raise typer.Exit(IntegrityError.exit_code)
