"""A base's tokenizer and chat template: whether a conversation can be written with them, and where a reply ends."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from mlc.errors import MlcError
from mlc.models.inference import end_of_turn, generation_stops, thinking_of
from mlc.models.template_arguments import arguments_of, taken
from mlc.text import one_line, visible

TURN = {"role": "user", "content": "How do I plant a tree?"}
REPLY = {"role": "assistant", "content": "Dig a hole and water it."}
SYSTEM = {"role": "system", "content": "Reply in one sentence."}


class ChatTemplate(NamedTuple):
    """What a chat template does.

    ``end`` is the token that it ends a reply with, in words, None where it writes none; ``is_stop`` says whether the
    model's own settings stop there; ``system`` whether it takes a system turn; ``thinks`` whether it knows of thinking
    and does not end it before the reply; ``arguments`` are those that it takes (base.template_arguments).
    """

    end: str | None
    is_stop: bool
    system: bool
    thinks: bool
    arguments: tuple[str, ...]


def check_chat_template(name: str, folder: Path) -> ChatTemplate:
    """Loads the tokenizer in a model's folder, and writes a conversation with its template.

    Raises:
        MlcError: the tokenizer cannot be loaded, or its template cannot write a user's turn and a reply.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever a file of somebody else's holds
        raise MlcError(
            f"base.model = {name}: its tokenizer cannot be loaded: {one_line(error)}. A folder of a model holds"
            " tokenizer.json, or the files of a slow tokenizer and the package that reads them"
        ) from None
    if not tokenizer.chat_template:
        raise MlcError(
            f"base.model = {name}: the tokenizer has no chat template. Take the instruct model, or put the template"
            " that it was tuned with into chat_template.jinja in its folder"
        )
    try:
        asked, whole = _written(tokenizer, [TURN], header=True), _written(tokenizer, [TURN, REPLY], header=False)
    except (TemplateError, TypeError, ValueError) as error:
        raise MlcError(
            f"base.model = {name}: its chat template cannot write a user's turn and a reply: {one_line(error)}"
        ) from None
    for text, turn in ((asked, TURN), (whole, TURN), (whole, REPLY)):
        if turn["content"] not in text:
            raise MlcError(f"base.model = {name}: its chat template leaves out what the {turn['role']} says")
    end = end_of_turn(tokenizer)
    try:
        system = SYSTEM["content"] in _written(tokenizer, [SYSTEM, TURN], header=True)
    except (TemplateError, TypeError, ValueError):
        system = False
    thinking = thinking_of(tokenizer)
    return ChatTemplate(
        None if end is None else visible(str(tokenizer.convert_ids_to_tokens(end))),
        end is not None and end in generation_stops(_generation_settings(folder), tokenizer),
        system,
        thinking is not None and not thinking.closed,
        tuple(sorted(taken(tokenizer.get_chat_template()) | arguments_of(folder).keys())),
    )


def _written(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], header: bool) -> str:
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=header, tokenize=False))


def _generation_settings(folder: Path) -> GenerationConfig:
    """As transformers has them when it loads the model."""
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def thinks_note(template: ChatTemplate) -> str:
    """What to know of a base that thinks before it replies."""
    arguments = [name for name in template.arguments if "think" in name or "reason" in name]
    off = f"; base.template_arguments can switch thinking off ({', '.join(arguments)})" if arguments else ""
    return (
        "its chat template lets the model think before it replies: the reply alone is judged, and both have to fit"
        f" evaluate.max_new_tokens{off}"
    )
