"""``mlc registry``: versions, aliases and their ledger; and what is done with a version: ``export``, ``reproduce``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mlc.cli.context import project
from mlc.text import visible

app = typer.Typer(help="Look at the model registry, and decide what is champion.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(help="a version, such as 3, or an alias: champion, previous, candidate")]
Version = Annotated[str, typer.Argument(help="a version, such as 3")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]
Why = Annotated[str, typer.Option(help="for the ledger")]


def _say(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        # JSON escapes control characters up to U+001F alone; some terminals act on others.
        text = "".join(
            character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
            for character in json.dumps(result, ensure_ascii=False, indent=2)
        )
    print(text)


def _moved(outcome: str, as_json: bool) -> None:
    """What a move did, and where the aliases are now."""
    settings, paths = project()
    from mlc.registry.model import RegisteredModel

    aliases = RegisteredModel(paths, settings.register_.model_name).aliases()
    _say({"result": outcome, "aliases": aliases}, as_json, f"registry: {outcome}")


@app.command("list")
def registry_list(as_json: AsJson = False) -> None:
    """Show the versions with their aliases, and the ledger of every alias move."""
    settings, paths = project()
    from mlc.registry.ledger import described, rejection
    from mlc.registry.lineage import summary
    from mlc.registry.model import RegisteredModel

    model = RegisteredModel(paths, settings.register_.model_name)
    aliases = model.aliases()
    versions = [summary(version, aliases) for version in model.versions()]
    ledger = model.ledger()
    lines = [
        f"version {v['version']:>3}  {v['created']}  commit {visible((v['git_commit'] or 'none')[:12])},"
        f" data {visible((v['data'] or 'none')[:12])}  "
        # An alias on a rejected version was put there without mlc, and means nothing.
        f"{rejection(ledger, v['version']) or ', '.join(map(visible, v['aliases']))}".rstrip()
        for v in versions
    ]
    text = "\n".join([*lines, *map(described, ledger)])
    empty = f"{model.name} has no versions yet: `mlc register` makes them"
    _say({"model": model.name, "versions": versions, "ledger": ledger}, as_json, text or empty)


@app.command("show")
def registry_show(which: Which, as_json: AsJson = False) -> None:
    """Show a version: its aliases, verdict, and the moves that it was part of."""
    settings, paths = project()
    from mlc.registry.ledger import described
    from mlc.registry.lineage import lineage

    version = lineage(paths, settings.register_.model_name, which)
    gate = f"{'passed' if version['gate']['passed'] else 'failed'} {version['gate']['rules']} rules"
    aliases = ", ".join(map(visible, version["aliases"])) or "no alias"
    lines = [
        f"version {version['version']} of {version['model']}: {aliases}",
        f"created   {version['created']}, commit {visible((version['commit'] or 'none')[:12])}, run {version['run']}",
        f"manifest  {visible(str(version['manifest']))}",
        f"verdict   {gate}, sha256 {visible(str(version['verdict']))}",
        *map(described, version["ledger"]),
    ]
    parts = {
        "model": version["model"],
        "version": version["version"],
        "aliases": version["aliases"],
        "created": version["created"],
        "run": version["run"],
        "commit": version["commit"],
        "manifest": version["manifest"],
        "verdict": version["verdict"],
        "gate": version["gate"],
        "ledger": version["ledger"],
    }
    _say(parts, as_json, "\n".join(lines))


@app.command("lineage")
def registry_lineage(which: Which, as_json: AsJson = False) -> None:
    """Show all that a version was made from and judged by, and the commands that make it again."""
    settings, paths = project()
    from mlc.gates.licences import sentence
    from mlc.gates.verdict import Licensed
    from mlc.registry.lineage import lineage
    from mlc.settings import flat

    version = lineage(paths, settings.register_.model_name, which)
    facts = {key: value for key, value in version.items() if key not in ("ledger", "licences", "rebuild")}
    lines = [f"{visible(key):<45} {visible(str(value))}" for key, value in flat(facts).items()]
    lines += [sentence(Licensed.model_validate(licence)) for licence in version["licences"]]
    again = f"Make it again, and compare: mlc reproduce {version['version']}; or by hand:"
    _say(version, as_json, "\n".join([*lines, "", again, *(f"  {visible(command)}" for command in version["rebuild"])]))


@app.command("verify", epilog="Example: mlc registry verify all. Exit code 7 where something differs.")
def registry_verify(
    which: Annotated[str, typer.Argument(help="a version, an alias, or all")] = "champion", as_json: AsJson = False
) -> None:
    """Hash the files of versions again, compute their verdicts again from them, and check the ledger."""
    settings, paths = project()
    from mlc.errors import IntegrityError, MlcError
    from mlc.registry.model import ALIASES, RegisteredModel
    from mlc.registry.recheck import evidence_faults
    from mlc.registry.registration import outdated
    from mlc.registry.verify import VersionFiles, differences, fetched

    model = RegisteredModel(paths, settings.register_.model_name)
    faults: dict[str, list[str]] = {}
    wrong = model.faults()
    record = outdated(paths, model) if paths.registration.exists() and not wrong else None
    try:
        versions = model.versions() if which == "all" else [model.version(which)]
    except MlcError as error:
        if which not in ALIASES or not (wrong or record):
            raise
        versions, faults[which] = [], [str(error)]
    for version in (str(version.version) for version in versions):
        try:
            with fetched(model, version) as folder:
                found = differences(model, version, folder)
                faults[f"version {version}"] = found or evidence_faults(VersionFiles(folder).evidence)
        except MlcError as error:
            faults[f"version {version}"] = [str(error)]
    faults["ledger"] = wrong
    if record:
        faults[str(paths.registration)] = [f"{record}: `mlc run` or `mlc register` brings both together"]
    lines = [f"{what}: {'; '.join(map(visible, wrong)) or 'OK'}" for what, wrong in faults.items()]
    _say({"ok": not any(faults.values()), "differences": faults}, as_json, "\n".join(lines))
    if any(faults.values()):
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

    outcome = export(paths, settings.register_.model_name, which, folder, merged)
    _say({"folder": str(folder), "result": outcome}, as_json, f"export: {outcome}")


def reproduce(
    which: Which,
    into: Annotated[Path | None, typer.Option(help="a new folder, which stays", show_default="a temporary one")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline again as it was for a version, in a git worktree, and compare weights and metrics."""
    settings, paths = project()
    from mlc.errors import IntegrityError
    from mlc.registry.reproduce import reproduce

    reproduction = reproduce(paths, settings.register_.model_name, which, into)
    equal = "equal" if reproduction["equal"] else "not equal"
    lines = [f"reproduce: version {reproduction['version']} of {reproduction['model']}: {equal}"]
    lines += [f"  {difference}" for difference in reproduction["differences"]]
    lines += [f"  other library: {library}" for library in reproduction["libraries"]]
    lines += [f"  git worktree remove --force {reproduction['folder']}: removes it"] if reproduction["folder"] else []
    _say(reproduction, as_json, "\n".join(lines))
    if not reproduction["equal"]:
        raise typer.Exit(IntegrityError.exit_code)
