"""``mlc translate``: by machine, what a prompt set lacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from mlc.cli.context import checked_licence

Fill = Callable[[Any], None]  # takes a mlc.translation.Translator, which is imported only where it runs
app = typer.Typer(help="Fill in the variants that a prompt set lacks, by machine translation.", no_args_is_help=True)


def _common(
    path: Annotated[Path, typer.Argument(metavar="SET", help="prompt set to fill in, such as data/alignment.jsonl")],
    languages: Annotated[str, typer.Option("--languages", help="tags of the languages to translate into: sw,bn")],
    source_language: Annotated[
        str, typer.Option("--source-language", help="tag of the language to translate from")
    ] = "en",
    back: Annotated[bool, typer.Option("--back", help="also translate the variants of these languages back")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="translate this many texts at most")] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="name that must stay to the letter; as often as needed")
    ] = None,
    keep_flagged: Annotated[
        bool, typer.Option("--keep-flagged", help="keep translations that lost a number, link or name")
    ] = False,
    cache: Annotated[Path, typer.Option("--cache", help="where all translations are kept")] = Path(
        ".cache/translations/translations.sqlite"
    ),
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            callback=checked_licence,
            help="SPDX identifier that the translations are under; by default the model card's",
        ),
    ] = None,
) -> Fill:
    """The arguments of every translator's command, as what fills in a set."""
    from mlc.translation import fill

    job = fill.job(languages, source_language, back, limit, name, keep_flagged)
    return lambda translator: fill.run(path, translator, job, cache, licence)


def _with_common(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the arguments of ``_common``, whose result it gets as ``run``."""
    common = inspect.signature(_common, eval_str=True).parameters
    own = [
        parameter for name, parameter in inspect.signature(command, eval_str=True).parameters.items() if name != "run"
    ]

    @wraps(command)
    def whole(**values: Any) -> None:
        run = _common(**{name: values.pop(name) for name in common})
        command(run=run, **values)

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*common.values(), *own)]
    whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return whole


@app.command(
    "seq2seq",
    epilog="Example: mlc translate seq2seq data/alignment.jsonl --languages sw,bn --model facebook/nllb-200-3.3B",
)
@_with_common
def translate_seq2seq(
    run: Fill,
    model: Annotated[str, typer.Option(help="folder or hub id of an NLLB (non-commercial), M2M-100 or MADLAD model")],
    revision: Annotated[str | None, typer.Option(help="of a hub model: its commit")] = None,
    beams: Annotated[int, typer.Option(min=1, help="width of beam search")] = 4,
    length_ratio: Annotated[float, typer.Option(min=0.5, help="most tokens of a translation per source token")] = 3.0,
    batch_tokens: Annotated[int, typer.Option(min=1, help="tokens of a batch, times beams, padding included")] = 8192,
) -> None:
    """By a translation model of transformers, on the GPU if there is one."""
    from mlc.translation.seq2seq import Seq2SeqTranslator

    run(Seq2SeqTranslator(model, revision, beams, length_ratio, batch_tokens))


@app.command(
    "endpoint",
    epilog="Example: mlc translate endpoint data/alignment.jsonl --languages sw --base-url http://host/v1 --model NAME",
)
@_with_common
def translate_endpoint(
    run: Fill,
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
) -> None:
    """By a language model behind an OpenAI-compatible endpoint."""
    from mlc.spending import Price, Spending
    from mlc.translation import answers
    from mlc.translation.endpoint import EndpointTranslator

    spending = Spending(Price(price_in, price_out), spending_limit)
    extra = answers.fields(body)
    translator = EndpointTranslator(base_url, model, api_key_variable, concurrency, timeout, attempts, spending, extra)
    try:
        run(translator)
    finally:
        if price_in or price_out:
            print(f"spent: {spending.spent:.4f}")


@app.command(
    "command",
    epilog="Example: mlc translate command data/alignment.jsonl --languages sw --run ./mine.sh --command-version 1",
)
@_with_common
def translate_command(
    run: Fill,
    program: Annotated[str, typer.Option("--run", help="program that reads and writes JSON lines, with its arguments")],
    command_version: Annotated[str, typer.Option(help="what you call this state of the program")],
    command_name: Annotated[str | None, typer.Option(help="its name in provenance; the program's by default")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds without a line, after which it is stuck")] = 600.0,
) -> None:
    """By any other system, as a program that reads and writes JSON lines."""
    from mlc.translation.command import CommandTranslator

    run(CommandTranslator(program, command_version, command_name, timeout))
