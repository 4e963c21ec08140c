"""``mlc chat``: a conversation with one model, or with two side by side; replies are made as evaluation makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlc.errors import MlcError
from mlc.languages.check import LanguageCheck
from mlc.languages.identify import identify
from mlc.languages.tags import check_language, language_name
from mlc.models.inference import answers, chat_ids
from mlc.models.loading import load_model
from mlc.models.manifest import Manifest
from mlc.models.weights import is_adapter
from mlc.paths import Paths
from mlc.settings import Settings
from mlc.text import visible

NEW = "/new"
ONLY_THOUGHT = "it thought and did not reply: raise --max-new-tokens, or switch thinking off (base.template_arguments)"


class Speaker:
    """A model and its side of the conversation."""

    def __init__(self, name: str, folder: Path, base_folder: Path, precision: str) -> None:
        self.name = name
        self.model, self.tokenizer = load_model(folder, base_folder, precision)
        self.turns: list[dict[str, str]] = []
        self.only_thought = False  # the last time it was asked

    @property
    def longest(self) -> int | None:
        """The tokens that the model can hold, where its configuration says so."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _ids(self) -> list[int]:
        return chat_ids(self.tokenizer, self.turns)

    def reply(self, text: str, max_new_tokens: int) -> str:
        """The next reply, without the thinking before it.

        What no longer fits of the conversation is left out, the oldest turns first.

        Raises:
            MlcError: this one message does not fit.
        """
        self.turns.append({"role": "user", "content": text})
        ids = self._ids()
        while self.longest is not None and len(ids) + max_new_tokens > self.longest:
            if len(self.turns) < 3:
                raise MlcError(
                    f"this message has {len(ids)} tokens, and with a reply of {max_new_tokens} the model holds"
                    f" {self.longest}: write less, or lower --max-new-tokens"
                )
            del self.turns[:2]
            ids = self._ids()
        (answer,) = answers(self.model, self.tokenizer, [ids], max_new_tokens)
        self.turns.append({"role": "assistant", "content": answer.text})
        self.only_thought = answer.thinking is not None and not answer.text
        return answer.text


def _speaker(name: str, settings: Settings, paths: Paths, opened: ExitStack) -> Speaker:
    """A model by name: base, candidate, a folder, or a version or alias of the registry, which is verified first."""
    precision = settings.evaluate.precision
    if name == "base":
        return Speaker(name, paths.base, paths.base, precision)
    if name == "candidate" and paths.model.is_dir():
        return Speaker(name, paths.model, paths.base, precision)
    if (folder := Path(name)).is_dir():
        return Speaker(folder.name, folder, paths.base if is_adapter(folder) else folder, precision)
    from mlc.registry.model import RegisteredModel, names_version
    from mlc.registry.verify import MODEL, base_of, verified

    if not names_version(name):
        raise MlcError(f"{name}: no such folder; a version is a number, champion, previous or candidate")
    model = RegisteredModel(paths, settings.register_.model_name)
    version = str(model.version(name).version)
    folder = opened.enter_context(verified(model, version))
    weights = base = folder / MODEL
    if is_adapter(weights):
        base = opened.enter_context(base_of(folder, Manifest.of(weights), paths.base))
    return Speaker(f"version {version}" + ("" if name.isdecimal() else f", {name}"), weights, base, precision)


def _messages() -> Iterator[str]:
    """The user's lines: asked for on a terminal, otherwise read until the end of the input."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.strip()
        return
    with suppress(ImportError):
        import readline  # noqa: F401 # line editing and history of input()
    print(f"{NEW} begins another conversation; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            return


def _printable(reply: str) -> str:
    """A reply with its line breaks, and nothing else in it that acts on a terminal."""
    return "\n".join(map(visible, reply.split("\n")))


def _turn(console: Console, names: Sequence[str], replies: Sequence[str], notes: Sequence[str]) -> None:
    if len(names) == 1:
        console.print(Text(_printable(replies[0])))
        if notes[0]:
            console.print(Text(f"({notes[0]})", style="dim"))
        return
    table = Table(expand=True)
    for name in names:
        table.add_column(Text(name))
    table.add_row(*(Text(_printable(reply)) for reply in replies))
    if any(notes):
        table.add_row(*(Text(note, style="dim") for note in notes))
    console.print(table)


def run(
    names: Sequence[str], settings: Settings, language: str | None, max_new_tokens: int, as_json: bool, paths: Paths
) -> None:
    """Answers line after line, until the input ends. A registered version is hashed again before it is loaded.

    Raises:
        MlcError: a model does not exist or is not what was registered, or a message does not fit into it.
    """
    if language is not None:
        try:
            check_language(language)
        except ValueError as error:
            raise MlcError(f"--language: {error}") from None
    console, check = Console(highlight=False), LanguageCheck.of(settings.languages)
    with ExitStack() as opened:
        speakers = [_speaker(name, settings, paths, opened) for name in names]
        for message in _messages():
            if message == NEW:
                for speaker in speakers:
                    speaker.turns.clear()
                continue
            if not message:
                continue
            replies = [speaker.reply(message, max_new_tokens) for speaker in speakers]
            if as_json:
                answers = [
                    {"model": s.name, "response": reply, **_languages(reply, language, check)}
                    for s, reply in zip(speakers, replies, strict=True)
                ]
                print(json.dumps({"prompt": message, "replies": answers}, ensure_ascii=False), flush=True)
                continue
            notes = [
                ONLY_THOUGHT if speaker.only_thought else "" if language is None else _note(reply, language, check)
                for speaker, reply in zip(speakers, replies, strict=True)
            ]
            _turn(console, [speaker.name for speaker in speakers], replies, notes)


def _languages(reply: str, language: str | None, check: LanguageCheck) -> dict[str, str]:
    """What a reply reads like, and, where one was asked for, whether that is its language."""
    if language is None:
        return {"language": identify(reply)}
    heard = check(reply, language)
    return {"language": heard.language, "in_language": heard.answer}


def _note(reply: str, language: str, check: LanguageCheck) -> str:
    heard = check(reply, language)
    if not any(map(str.isalnum, reply)):
        return "no words in it"
    if heard.answer != "no":
        return ""
    other = "another language" if heard.language == "und" else language_name(heard.language)
    return f"reads like {other}, not {language_name(language)}"
