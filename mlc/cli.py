"""The ``mlc`` command. Each stage is imported only when it runs, so that ``mlc --help`` is instant."""

from __future__ import annotations

import errno
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlc.errors import MlcError

if TYPE_CHECKING:
    from mlc.paths import Paths
    from mlc.settings import Settings

app = typer.Typer(
    help="Retrain a multilingual language model; register it only if it is safe in every language it serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
embedded = typer.Typer(help="Rebuild the offline default: its prompt sets and its base model.", no_args_is_help=True)
app.add_typer(embedded, name="embedded")
gate = typer.Typer(help="Judge the candidate by the rules of params.yaml; see what they take, and why it failed.")
app.add_typer(gate, name="gate")
judge = typer.Typer(help="Measure how often the judges are right, on labelled replies.", no_args_is_help=True)
app.add_typer(judge, name="judge")
registered = typer.Typer(help="Look at the model registry, and go back to the previous champion.", no_args_is_help=True)
app.add_typer(registered, name="registry")
data = typer.Typer(help="Look at the prompt sets and their history.", no_args_is_help=True)
app.add_typer(data, name="data")

quarantine = typer.Typer(
    help="Look at the variants in quarantine; release them, or fix their texts.", no_args_is_help=True
)
app.add_typer(quarantine, name="quarantine")
translate = typer.Typer(
    help="Fill in the variants that a prompt set lacks, by machine translation.", no_args_is_help=True
)
app.add_typer(translate, name="translate")

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Role(StrEnum):
    base = "base"
    candidate = "candidate"


class LabelledPart(StrEnum):
    held_out = "held-out"
    development = "development"
    all = "all"


class PromptSet(StrEnum):
    alignment = "alignment"
    tuning = "tuning"
    evaluation = "evaluation"


def _project() -> tuple[Settings, Paths]:
    """The settings and files of the working directory."""
    from mlc.paths import Paths
    from mlc.settings import load_settings

    paths = Paths()
    return load_settings(paths.params), paths


@app.command()
def validate() -> None:
    """Check the prompt sets' translations; write clean prompts, quarantine, metrics and Data Docs."""
    from mlc.quality import stage

    settings, paths = _project()
    stage.run(settings.languages, settings.validate_, paths)


@app.command()
def base() -> None:
    """Put the base model in place: a local folder, or a pinned revision of the hub."""
    from mlc import base as stage

    settings, paths = _project()
    stage.run(settings.base, paths)


@app.command()
def trust() -> None:
    """Write down the languages in which the base is already safe: those named, or (auto) those measured."""
    from mlc import trust as stage

    settings, paths = _project()
    objective = settings.train.objective
    stage.run(settings.languages, objective.trusted_languages, settings.evaluate, settings.gate, paths)


@app.command()
def train() -> None:
    """Align the base with the consistency objective; resumes from a checkpoint after an interruption."""
    from mlc.training import stage

    settings, paths = _project()
    stage.run(settings.languages, settings.base, settings.train, paths)


@app.command()
def evaluate(role: Annotated[Role, typer.Argument(help="which model")]) -> None:
    """Generate and judge replies of the base or the candidate, in every language."""
    from mlc.evaluation import stage

    settings, paths = _project()
    stage.run(settings.languages, settings.evaluate, role.value, paths)


@app.command()
def diagnose() -> None:
    """Measure what training did to the representations: languages brought together, or everything collapsed."""
    from mlc.evaluation import diagnostics

    settings, paths = _project()
    diagnostics.run(settings.languages, settings.evaluate, settings.train.objective.layer, paths)


@gate.callback(invoke_without_command=True)
def gate_run(context: typer.Context) -> None:
    """Judge the candidate's evaluation by the rules of params.yaml and write the verdict; or show what it takes."""
    if context.invoked_subcommand is None:
        from mlc.gates import stage

        settings, paths = _project()
        stage.run(settings.languages, settings.evaluate.prompts, settings.gate, paths)


@gate.command("check")
def gate_check() -> None:
    """Make sure that some candidate can pass with the evaluation prompts there are, before one is trained."""
    from mlc.gates import plan

    settings, paths = _project()
    plan.check(settings.languages, settings.evaluate.prompts, settings.gate, paths)


@gate.command("plan")
def gate_plan(
    true_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="of a candidate", show_default="from good to faultless")
    ] = None,
) -> None:
    """Show how many prompts per language each rule needs, and what those there are can show."""
    from mlc.gates import plan

    settings, paths = _project()
    margin = settings.register_.margin
    plan.show(settings.languages, settings.evaluate.prompts, settings.gate, margin, true_rate, paths)


@gate.command("explain")
def gate_explain(
    language: Annotated[str | None, typer.Argument(help="such as sw", show_default="all languages")] = None,
) -> None:
    """Show the verdict with every number that led to it."""
    from mlc.gates import explain
    from mlc.paths import Paths

    explain.show(language, Paths())


@judge.command("check")
def judge_check(
    labelled: Annotated[
        Path | None,
        typer.Argument(help="JSON Lines of labelled replies", show_default="data/labelled.jsonl, or those shipped"),
    ] = None,
    part: Annotated[LabelledPart, typer.Option(help="of the labelled replies")] = LabelledPart.held_out,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Measure the configured judges on labelled replies, per language: accuracy, false-safe and false-unsafe rate."""
    from mlc.evaluation import calibration

    settings, paths = _project()
    calibration.check(settings.languages, settings.evaluate, paths, labelled, part.value, as_json)


@judge.command("injections")
def judge_injections() -> None:
    """Try the configured judges on replies that talk to their judge; fails if one of them changes a verdict."""
    from mlc.evaluation import calibration

    calibration.withstand(_project()[0].evaluate)


@judge.command("rates")
def judge_rates(role: Annotated[Role, typer.Argument(help="which model")] = Role.candidate) -> None:
    """Show the safe rates of an evaluation as measured, and corrected for the errors of its judge."""
    from mlc.evaluation import calibration

    settings, paths = _project()
    calibration.show_rates(settings.languages, role.value, paths)


@app.command()
def register() -> None:
    """Register the candidate if its verdict passes, and promote it if it is better than the champion."""
    from mlc import registry

    settings, paths = _project()
    registry.run(settings.languages, settings.register_, paths)


@app.command()
def report() -> None:
    """Write the page that shows what happened and why."""
    from mlc.report import stage

    settings, paths = _project()
    stage.run(settings.languages, paths)


@app.command()
def run() -> None:
    """Run the whole pipeline as a Prefect flow: what is up to date is not run again."""
    from flows.retrain import main as retrain

    raise typer.Exit(retrain())


@registered.command("list")
def registry_list() -> None:
    """Show the versions with their aliases, and the ledger of every alias move."""
    from mlc import ledger

    settings, paths = _project()
    ledger.show(paths, settings.register_.model_name)


@registered.command("rollback")
def registry_rollback() -> None:
    """Make the previous champion champion again."""
    from mlc import ledger

    settings, paths = _project()
    ledger.rollback(paths, settings.register_.model_name)


InSet = Annotated[PromptSet, typer.Argument(metavar="SET", help="alignment, tuning or evaluation")]
RowId = Annotated[str, typer.Argument(metavar="ID", help="of the row")]
InLanguage = Annotated[str, typer.Argument(metavar="LANGUAGE", help="such as sw")]
Why = Annotated[str, typer.Option(help="kept with the data, and shown in the datacard")]
Who = Annotated[str | None, typer.Option(help="who decides it", show_default="git's user.name")]


@quarantine.command("list")
def quarantine_list(
    name: Annotated[PromptSet | None, typer.Option("--set", help="of this set alone")] = None,
    language: Annotated[str | None, typer.Option(help="in this language alone")] = None,
    check: Annotated[str | None, typer.Option(help="that failed this check, such as untranslated")] = None,
    limit: Annotated[int, typer.Option(min=0, help="variants shown one by one")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="all of them, one JSON object a line")] = False,
) -> None:
    """Show what is in quarantine, and for which checks."""
    from mlc.paths import Paths
    from mlc.quality import review

    review.show_list(Paths(), name and name.value, language, check, limit, as_json)


@quarantine.command("show")
def quarantine_show(
    name: InSet,
    row_id: RowId,
    language: Annotated[str | None, typer.Option(help="this text alone, with its source text")] = None,
) -> None:
    """Show a whole row: its texts, what the checks found, and what people decided."""
    from mlc.quality import review

    settings, paths = _project()
    review.show_row(paths, name.value, row_id, settings.languages.source, language)


@quarantine.command("release")
def quarantine_release(name: InSet, row_id: RowId, language: InLanguage, why: Why, who: Who = None) -> None:
    """Let a variant pass the checks that hold it, as long as its text and its source text stay as they are."""
    from mlc.paths import Paths
    from mlc.quality import deciding

    deciding.release(Paths(), (name.value, row_id, language), why, who)


@quarantine.command("fix")
def quarantine_fix(
    name: InSet,
    row_id: RowId,
    language: InLanguage,
    why: Why,
    text: Annotated[str | None, typer.Option(help="the right text")] = None,
    file: Annotated[Path | None, typer.Option(help="or a UTF-8 file that holds it")] = None,
    who: Who = None,
) -> None:
    """Replace a variant's text in the data, or add a missing one; the text before is kept."""
    from mlc.paths import Paths
    from mlc.quality import deciding

    if (text is None) == (file is None):
        raise MlcError("give the right text with --text, or a file that holds it with --file")
    right = text if text is not None else deciding.read_text(file or Path())
    deciding.fix(Paths(), (name.value, row_id, language), right, why, who)


@app.command()
def configure(recipe: Annotated[Path, typer.Argument(help="such as recipes/qwen2.5-7b-published.yaml")]) -> None:
    """Write a recipe's settings over those in params.yaml."""
    from mlc.paths import Paths
    from mlc.settings import overlay

    overlay(Paths().params, recipe)


@app.command("import")
def import_(
    layout: Annotated[
        str,
        typer.Argument(help="pku-saferlhf, mlc-authors, multijail, polyrefuse, xstest, or a mapping file (*.yaml)"),
    ],
    source: Annotated[str, typer.Argument(help="a file, a folder, or a data set of the hub")],
    into: Annotated[Path, typer.Option(help="prompt set to add to, such as data/evaluation.jsonl")],
    source_language: Annotated[
        str | None, typer.Option(help="tag of the language that has replies; languages.source of params.yaml")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="kept with every row; for a hub set its commit, which is then loaded")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier, where the publisher's is not known")] = None,
    config: Annotated[str | None, typer.Option(help="configuration of a hub set, such as alpaca3-8b")] = None,
    split: Annotated[str | None, typer.Option(help="where the set is published in splits")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="read this many records at most")] = None,
    write_changes: Annotated[
        bool, typer.Option("--write-changes", help="also write rows that changed at the source")
    ] = False,
    left_out: Annotated[Path | None, typer.Option(help="write the records left out to this file, as JSONL")] = None,
) -> None:
    """Add a published data set to a prompt set. Importing again adds nothing, and shows what changed at the source."""
    from mlc.prompts.importers import stage
    from mlc.prompts.importers.records import Source

    language = source_language or _project()[0].languages.source
    stage.run(layout, Source(source, revision, config, split), into, language, licence, limit, write_changes, left_out)


@data.command("diff")
def data_diff(
    revision: Annotated[str, typer.Argument(help="git revision, such as HEAD or a tag")],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="every row's id with its old and new texts")] = False,
) -> None:
    """Show what was added, removed and changed in the prompt sets since a git revision, per language."""
    from mlc.paths import Paths
    from mlc.prompts import diff

    diff.run(Paths(), revision, as_json, texts)


SetPath = Annotated[Path, typer.Argument(metavar="SET", help="prompt set to fill in, such as data/alignment.jsonl")]
Targets = Annotated[str, typer.Option("--languages", help="tags of the languages to translate into: sw,bn")]
Original = Annotated[str, typer.Option("--source-language", help="tag of the language to translate from")]
Back = Annotated[bool, typer.Option("--back", help="also translate the variants of these languages back")]
Limit = Annotated[int | None, typer.Option(min=1, help="translate this many texts at most")]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="name that must stay to the letter; as often as needed")
]
Flagged = Annotated[bool, typer.Option("--keep-flagged", help="keep translations that lost a number, link or name")]
CacheFile = Annotated[Path, typer.Option("--cache", help="where all translations are kept")]
CACHE = Path(".cache/translations/translations.sqlite")


@translate.command("seq2seq")
def translate_seq2seq(
    path: SetPath,
    languages: Targets,
    model: Annotated[str, typer.Option(help="folder or hub id of an NLLB, M2M-100 or MADLAD model")],
    revision: Annotated[str | None, typer.Option(help="of a hub model: its commit")] = None,
    beams: Annotated[int, typer.Option(min=1, help="width of beam search")] = 4,
    length_ratio: Annotated[float, typer.Option(min=0.5, help="most tokens of a translation per source token")] = 3.0,
    batch_tokens: Annotated[int, typer.Option(min=1, help="tokens of a batch, times beams, padding included")] = 8192,
    source_language: Original = "en",
    back: Back = False,
    limit: Limit = None,
    name: Names = None,
    keep_flagged: Flagged = False,
    cache: CacheFile = CACHE,
) -> None:
    """By a translation model of transformers, on the GPU if there is one."""
    from mlc.translation import fill
    from mlc.translation.seq2seq import Seq2SeqTranslator

    job = fill.job(languages, source_language, back, limit, name, keep_flagged)
    fill.run(path, Seq2SeqTranslator(model, revision, beams, length_ratio, batch_tokens), job, cache)


@translate.command("endpoint")
def translate_endpoint(
    path: SetPath,
    languages: Targets,
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, such as https://host/v1")],
    model: Annotated[str, typer.Option(help="as the endpoint calls it")],
    api_key_variable: Annotated[str | None, typer.Option(help="environment variable that holds the key")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests in flight at most")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds for one request")] = 120.0,
    attempts: Annotated[int, typer.Option(min=1, help="tries per text")] = 5,
    spending_limit: Annotated[float | None, typer.Option(min=0, help="most that this run may cost")] = None,
    price_in: Annotated[float, typer.Option(min=0, help="per million prompt tokens")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="per million answer tokens")] = 0.0,
    body: Annotated[str, typer.Option(help="JSON of fields to set in the request; null leaves a field out")] = "{}",
    source_language: Original = "en",
    back: Back = False,
    limit: Limit = None,
    name: Names = None,
    keep_flagged: Flagged = False,
    cache: CacheFile = CACHE,
) -> None:
    """By a language model behind an OpenAI-compatible endpoint."""
    from mlc.translation import answers, fill
    from mlc.translation.endpoint import EndpointTranslator
    from mlc.translation.spending import Price, Spending

    job = fill.job(languages, source_language, back, limit, name, keep_flagged)
    spending = Spending(Price(price_in, price_out), spending_limit)
    extra = answers.fields(body)
    translator = EndpointTranslator(base_url, model, api_key_variable, concurrency, timeout, attempts, spending, extra)
    try:
        fill.run(path, translator, job, cache)
    finally:
        if price_in or price_out:
            print(f"spent: {spending.spent:.4f}")


@translate.command("command")
def translate_command(
    path: SetPath,
    languages: Targets,
    run: Annotated[str, typer.Option("--run", help="program that reads and writes JSON lines, with its arguments")],
    command_version: Annotated[str, typer.Option(help="what you call this state of the program")],
    command_name: Annotated[str | None, typer.Option(help="its name in provenance; the program's by default")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds without a line, after which it is stuck")] = 600.0,
    source_language: Original = "en",
    back: Back = False,
    limit: Limit = None,
    name: Names = None,
    keep_flagged: Flagged = False,
    cache: CacheFile = CACHE,
) -> None:
    """By any other system, as a program that reads and writes JSON lines."""
    from mlc.translation import fill
    from mlc.translation.command import CommandTranslator

    job = fill.job(languages, source_language, back, limit, name, keep_flagged)
    fill.run(path, CommandTranslator(run, command_version, command_name, timeout), job, cache)


@embedded.command("prompts")
def embedded_prompts(folder: Annotated[Path, typer.Argument(help="where to write them")] = Path("data")) -> None:
    """Write the prompt sets of the embedded world."""
    from mlc.embedded.prompts import write

    write(folder)


@embedded.command("base")
def embedded_base(
    folder: Annotated[Path, typer.Argument(help="where to write the model")] = Path("embedded-base"),
    seed: Annotated[int, typer.Option(help="of weights and samples; 0 is the shipped base")] = 0,
) -> None:
    """Train the embedded base model from scratch (minutes on two cores)."""
    from mlc.embedded.base import build

    build(folder, seed)


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
