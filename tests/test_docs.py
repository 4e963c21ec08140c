"""The documentation says what is so: its commands exist, its settings exist, its error messages are in the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from mlc.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(?:bash|console|sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}\S.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`(mlc [^`\n]+)`")
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9|]*$|\[|…|\.\.\.|\||<")


def commands(page: Path) -> Iterator[str]:
    """Every ``mlc`` command line of a page: in blocks (continuation lines joined), and inline."""
    text = page.read_text(encoding="utf-8")
    for block in [*FENCED.findall(text), *INDENTED.findall(text)]:
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s\|\s|&&|;", line.split(" #")[0]):
                if part.strip().startswith("mlc "):
                    yield part.strip()
    yield from INLINE.findall(FENCED.sub("", text))


@cache
def root() -> Any:
    return typer.main.get_command(app)


def wrong(line: str) -> str | None:
    """What is wrong with a command line; None where it is right as far as it goes."""
    try:
        arguments = shlex.split(line)[1:]
    except ValueError as error:
        return str(error)
    command = root()
    while hasattr(command, "commands"):  # a group
        while arguments and arguments[0].startswith("-"):  # options of the group
            if not any(arguments[0] in option.opts for option in command.params) and arguments[0] != "--help":
                return f"no option {arguments[0]}"
            arguments = arguments[1:]
        if not arguments or PLACEHOLDER.match(arguments[0]):
            return None
        subcommand = command.commands.get(arguments[0])
        if subcommand is None:
            # A group that also runs by itself takes what follows as its own arguments.
            return None if command.invoke_without_command and command is not root() else f"no command {arguments[0]}"
        command, arguments = subcommand, arguments[1:]
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    unknown = [
        argument for argument in arguments if argument.startswith("--") and argument.split("=")[0] not in options
    ]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    assert not {line: error for line in commands(page) if (error := wrong(line))}


def test_a_command_that_does_not_exist_is_found() -> None:
    assert wrong("mlc registry burn 3") and wrong("mlc validate --faster") and wrong("mlc gate explain --loud sw")
    assert wrong("mlc gate explain sw") is None


def test_every_error_message_of_the_faq_is_in_the_code() -> None:
    code = "\n".join(
        p.read_text(encoding="utf-8") for folder in ("mlc", "flows") for p in (ROOT / folder).rglob("*.py")
    )
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # strings over several lines
    code = code.replace("{NAME}", "manifest.json").replace("{path}", "params.yaml")
    messages = re.findall(r"^### `(.*)`$", (ROOT / "docs/faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    pieces = [piece.strip(" `:(") for message in messages for piece in message.split("…")]
    assert len(messages) > 15
    assert not [piece for piece in pieces if len(piece) > 8 and piece not in code]


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
