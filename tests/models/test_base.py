"""A base is opened before anything is trained: each defect is one line that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc.errors import MlcError
from mlc.models.base import INDEX, check_files
from mlc.models.chat_template import check_chat_template

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    edit_json(folder / "tokenizer_config.json", chat_template=None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DEFECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights not fetched by LFS": (
        lambda f: (f / "model.safetensors").write_bytes(POINTER),
        r"model\.safetensors is a pointer of Git LFS.*git lfs pull",
    ),
    "tokenizer not fetched by LFS": (
        lambda f: (f / "tokenizer.json").write_bytes(POINTER),
        r"tokenizer\.json is a poi",
    ),
    "weights cut off": (lambda f: cut(f / "model.safetensors"), r"model\.safetensors \([\d,]+ bytes\) holds no whole"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"holds no whole weights"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors"),
    "a shard missing": (
        lambda f: (f / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}})),
        r"1 of the weights files that model\.safetensors\.index\.json names are missing, such as model-00002-of-00002",
    ),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    "configuration broken": (lambda f: (f / "config.json").write_text("{"), r"config\.json is no JSON"),
    "configuration of nothing": (lambda f: (f / "config.json").write_text("{}"), r"names no model_type"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"its tokenizer cannot be loaded"),
    "no template": (without_template, r"the tokenizer has no chat template"),
    "a template that fails": (
        lambda f: (f / "chat_template.jinja").write_text("{{ raise_exception('images only') }}"),
        r"cannot write a user's turn and a reply: images only",
    ),
    "a template with a mistake": (
        lambda f: (f / "chat_template.jinja").write_text("{% for m in messages %}"),
        r"cannot write a user's turn and a reply",
    ),
    "a template without the prompt": (
        lambda f: (f / "chat_template.jinja").write_text("{{ messages[1]['content'] if messages|length > 1 }}"),
        r"leaves out what the user says",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_one_line_that_names_it(defect: str, tiny_base: Path, tmp_path: Path) -> None:
    spoil, expected = DEFECTS[defect]
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    check_files("ours/base", folder)
    spoil(folder)
    with pytest.raises(MlcError, match=expected) as refused:
        check_files("ours/base", folder)
    assert str(refused.value).startswith("base.model = ours/base: ") and "\n" not in str(refused.value)


def test_what_a_template_ends_a_reply_with_and_whether_the_model_stops_there(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    found = check_chat_template("base", folder)
    assert (found.end, found.is_stop, found.system) == ("<|im_end|>", True, True)
    for name in ("config.json", "generation_config.json"):
        edit_json(folder / name, eos_token_id=5)
    edit_json(folder / "tokenizer_config.json", eos_token="<|im_start|>")
    found = check_chat_template("base", folder)
    assert (found.end, found.is_stop) == ("<|im_end|>", False)
    template = folder / "chat_template.jinja"
    template.write_text("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")
    assert check_chat_template("base", folder).end is None
    template.write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    assert not check_chat_template("base", folder).system
