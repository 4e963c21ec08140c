"""``mlc init``, ``configure``, ``doctor`` and ``status``: the project itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlc.cli.context import project
from mlc.errors import MlcError

app = typer.Typer()
PANEL = "Project"
Json = Annotated[bool, typer.Option("--json", help="for programs")]


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: mlc init my-project --model meta-llama/Llama-3.2-1B-Instruct --revision COMMIT --served en,sw,bn"
    " --data prompts --recipe paradigm-sft --yes",
)
def init(
    folder: Annotated[Path, typer.Argument(help="new, empty, or a git repository")] = Path(),
    model: Annotated[str | None, typer.Option(help="the base: a folder, or a model id of the hub")] = None,
    revision: Annotated[str | None, typer.Option(help="commit of a hub model, 40 hexadecimal digits")] = None,
    served: Annotated[str | None, typer.Option(help="tags of the languages to align and gate: en,sw,bn")] = None,
    source: Annotated[
        str | None, typer.Option(help="the one that has replies", show_default="en, or the first")
    ] = None,
    transfer: Annotated[str | None, typer.Option(help="never trained on, evaluated to see what carries over")] = None,
    data: Annotated[
        Path | None, typer.Option(help="folder with alignment.jsonl, tuning.jsonl and evaluation.jsonl, to copy")
    ] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="a shipped recipe or a file; as often as needed")] = None,
    name: Annotated[
        str | None, typer.Option(help="of the registered model", show_default="the base's, and mlc")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="ask nothing: take flags, the recipe and the defaults")
    ] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="of a project that is there: take the installed package's code")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set up a project for your own model, languages and prompts. Asks for what no flag says."""
    from mlc.project import init as setup
    from mlc.project.configure import recipe_settings

    if upgrade:
        from mlc.paths import Paths

        setup.upgrade(Paths(folder))
        return
    recipes = tuple(recipe or ())
    known = recipe_settings(recipes)
    asks = not yes and sys.stdin.isatty()

    def answer(flag: str, given: str | None, default: str | None, question: str) -> str:
        if given is None and asks:
            return str(typer.prompt(question, default=default))
        if given is None and default is None:
            raise MlcError(f"--{flag} is missing: give it, or run mlc init on a terminal, where it asks")
        return given if given is not None else default or ""

    base, languages = known.get("base", {}), known.get("languages", {})
    model = answer("model", model, base.get("model"), "Base model (a folder, or a model id of the hub)")
    if not Path(model).is_dir() and revision is None:
        pinned = base.get("revision") if model == base.get("model") else None
        revision = answer("revision", None, pinned, "Its commit on the hub (40 hexadecimal digits)")
    tags = answer("served", served, ",".join(languages.get("served", [])) or None, "Languages to serve (en,sw,…)")
    first = languages.get("source") or ("en" if "en" in _tags(tags) else _tags(tags)[:1][0] if _tags(tags) else None)
    source = answer("source", source, first, "The one of them that has replies")
    carried = ",".join(tag for tag in languages.get("transfer", []) if tag not in _tags(tags))
    transfer = answer("transfer", transfer, carried, "Languages to evaluate only (none is fine)")
    if data is None and asks:
        data = Path(given) if (given := typer.prompt("Folder with prompt sets (empty: later)", default="")) else None
    default_name = known.get("register", {}).get("model_name") or f"{Path(model).resolve().name.lower()}-mlc"
    name = answer("name", name, default_name, "Name in the registry")
    done = setup.run(
        folder,
        setup.Answers(model, revision, source, _tags(tags), _tags(transfer), name, recipes, data),
    )
    if as_json:
        print(json.dumps(done, indent=2, ensure_ascii=False))
        return
    print(f"{done['folder']}: {done['model']} in {', '.join(done['languages']['served'])}")
    print("\n".join(f"  {choice}" for choice in done["settings"]))
    for warning in done["warnings"]:
        print(f"  WARNING: {warning}.\n  Name a guard or llm judge in evaluate.judges before a model is released.")
    print("\n".join([*(f"  {lack}" for lack in done["lacks"]), "next:", *(f"  {step}" for step in done["next"])]))


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in text.split(",") if tag.strip())


@app.command(rich_help_panel=PANEL, epilog="Example: mlc configure qwen2.5-7b-published; mlc configure lora-24gb")
def configure(recipe: Annotated[str, typer.Argument(help="a shipped recipe's name, or a file")]) -> None:
    """Write a recipe's settings over those in params.yaml."""
    from mlc.paths import Paths
    from mlc.project.configure import find_recipe, overlay

    overlay(Paths().params, find_recipe(recipe))


@app.command(rich_help_panel=PANEL, epilog="Example: mlc doctor --json")
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="do not try the base: it takes the longest")] = False,
    as_json: Json = False,
) -> None:
    """Check versions, disk, GPU, hub, remotes, servers, git, settings and prompts, try the base, and say what to do.
    Exits with 2 on a problem."""
    from mlc.paths import Paths
    from mlc.project import doctor as examination

    checks = examination.run(Paths(), tries_base=not quick)
    if as_json:
        print(json.dumps([check._asdict() for check in checks], indent=2, ensure_ascii=False))
    else:
        print(examination.table(checks))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(2)


@app.command(rich_help_panel=PANEL, epilog="Example: mlc status --json")
def status(as_json: Json = False) -> None:
    """Show the champion, the last runs, what is stale, what waits for approval, and the next scheduled run."""
    settings, paths = project()
    from mlc.project import status as state

    project_status = state.find(settings.register_.model_name, paths)
    print(json.dumps(project_status, indent=2, ensure_ascii=False) if as_json else state.render_text(project_status))
