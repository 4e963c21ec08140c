"""Arguments of a base's chat template, such as ``enable_thinking``, written into the template itself.

The base stage puts them at the head of ``chat_template.jinja``. Whoever renders it from there on, in training,
evaluation, serving or an exported copy, renders it with them, and nobody has to be told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.errors import MlcError
from mlc.text import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Argument = bool | int | str
FILE = "chat_template.jinja"
_HEAD = re.compile(r"\A\{# mlc: base\.template_arguments (\{.*?\}) #\}.*\n")
# What transformers and servers give every template, and what every template can call.
_GIVEN = frozenset(
    {
        "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token",
        "raise_exception", "strftime_now", "namespace", "range", "dict", "lipsum", "cycler", "joiner",
    }
)  # fmt: skip
_CHATS = (
    [{"role": "user", "content": "How do I plant a tree?"}],
    [
        {"role": "user", "content": "How?"},
        {"role": "assistant", "content": "Dig."},
        {"role": "user", "content": "Why?"},
    ],
    [{"role": "user", "content": "How do I plant a tree?"}, {"role": "assistant", "content": "Dig a hole."}],
)


def arguments_of(folder: Path) -> dict[str, Argument]:
    """The arguments that :func:`write` put into a model's template; none where it put none."""
    file = folder / FILE
    head = _HEAD.match(file.read_text(encoding="utf-8")) if file.is_file() else None
    return dict(json.loads(head[1])) if head else {}


def in_words(folder: Path) -> str:
    """The arguments in a model's template, to be put behind a name; empty where there are none."""
    return "".join(f", {name} {json.dumps(value)}" for name, value in arguments_of(folder).items())


def write(name: str, folder: Path, arguments: Mapping[str, Argument]) -> None:
    """Writes the arguments into the chat template in a model's folder, in place of earlier ones.

    Raises:
        MlcError: the template does not use one of them, or does not render as if it had been given them.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    before = _HEAD.sub("", tokenizer.get_chat_template())
    takes = taken(before)
    if unused := sorted(arguments.keys() - takes):
        raise MlcError(
            f"base.template_arguments: the chat template of {name} takes no {', '.join(unused)}; it takes:"
            f" {', '.join(sorted(takes)) or 'no argument'}"
        )
    as_json = json.dumps(dict(arguments)).replace("#", "\\u0023")  # no end of the comment
    values = "".join(f"{{% set {key} = {json.dumps(value, ensure_ascii=False)} %}}" for key, value in arguments.items())
    # One line, whose end the template's rendering drops: what follows begins a line, as it did.
    text = f"{{# mlc: base.template_arguments {as_json} #}}{values}\n{before}"
    _replace(folder / FILE, text)
    config = folder / "tokenizer_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    if "chat_template" in content:  # where older models have it: there is one template, not two
        del content["chat_template"]
        _replace(config, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    written: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _check_same(name, before, arguments, tokenizer, written)


def _replace(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)  # a link to somebody else's file
    file.write_text(text, encoding="utf-8")


def _check_same(
    name: str,
    before: str,
    arguments: Mapping[str, Argument],
    tokenizer: PreTrainedTokenizerBase,
    written: PreTrainedTokenizerBase,
) -> None:
    from jinja2 import TemplateError

    for chat in _CHATS:
        header = chat[-1]["role"] == "user"
        try:
            given = tokenizer.apply_chat_template(
                chat, chat_template=before, add_generation_prompt=header, tokenize=False, **dict(arguments)
            )
            now = written.apply_chat_template(chat, add_generation_prompt=header, tokenize=False)
        except (TemplateError, TypeError, ValueError) as error:
            raise MlcError(
                f"base.template_arguments: the chat template of {name} cannot be rendered with them: {one_line(error)}"
            ) from None
        if given != now:
            raise MlcError(
                f"base.template_arguments: the chat template of {name} renders otherwise with them in it than with"
                " them given: write them into chat_template.jinja in its folder by hand"
            )


def taken(template: str) -> set[str]:
    """The arguments that a chat template takes: names that it reads, that it does not set, and that are not given.

    Raises:
        MlcError: it is no template.
    """
    from jinja2 import TemplateError, meta

    # transformers' own environment, with its extensions; no public function gives it.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        environment = _compile_jinja_template(template).environment
        return set(meta.find_undeclared_variables(environment.parse(template))) - _GIVEN
    except TemplateError as error:
        raise MlcError(f"the chat template cannot be read: {one_line(error)}") from None
