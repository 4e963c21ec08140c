"""What mlc writes, DVC reads, as mlc does; what DVC cannot read, mlc refuses, and says where."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import ParseError, load_yaml
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.project import connections
from mlc.project.configure import overlay
from mlc.project.init import Answers, _params
from mlc.settings import load_settings, read_yaml

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "llama3.1:8b", "host:8080", "http://localhost:8000/v1", "no", "null", "~", "1e-4", "0x1f", "2026-11-30",
    "# none", "a # b", "it's", '"quoted"', "'", "a: b", "- a", "? a", "[a]", "{a: b}", "a, b", "a?b", "*a",
    "&a", "!a", "|", ">", "%a", "@a", "`a`", "يتحدث", "模型:8b", "🔑", "a b", " a ", "a  b", "\\n", "a\nb", "a\tb",
    "\u2028", "\ufeffa", "\x85", "x" * 200, "word " * 60, "a:" * 70, "%YAML 1.1", "---", "...", "<<", "=",
    "é\u00a0x",
]  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
names = texts.filter(bool)
urls = st.sampled_from(HOSTILE).map(lambda text: "http://a:1/" + re.sub(r"[@?\n]", "", text))
llm = st.fixed_dictionaries(
    {"name": st.just("llm"), "base_url": urls, "model": names, "key_variable": st.none() | names,
     "concurrency": st.just(8), "timeout": st.just(120.0), "attempts": st.just(6)}
)  # fmt: skip
recipes = st.fixed_dictionaries(
    {},
    optional={
        "base": st.fixed_dictionaries({"model": names, "revision": st.none() | names}),
        "evaluate": st.fixed_dictionaries({"judges": st.lists(llm, min_size=1, max_size=2)}),
        "tasks": st.fixed_dictionaries({"names": st.lists(names, min_size=1, max_size=3), "folder": st.none() | names,
                                        "limit": st.none()}),
        "validate": st.fixed_dictionaries({"encoder": names, "encoder_revision": names}),
    },
)  # fmt: skip


def written(recipe: dict[str, Any], style: str, path: Path) -> Path:
    """A recipe as people have it: in blocks, in brackets with every text in quotes, or as JSON."""
    if style == "json":
        path.write_text(json.dumps(recipe, ensure_ascii=False), encoding="utf-8")
        return path
    yaml = YAML()
    yaml.default_flow_style = style == "flow"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(recipe, file)
    return path


def told(content: dict[str, Any], recipe: dict[str, Any]) -> bool:
    return all(
        told(content[key], value) if isinstance(value, dict) else content[key] == value for key, value in recipe.items()
    )


@settings(deadline=None, max_examples=40, phases=[Phase.generate])
@given(recipes, st.sampled_from(["block", "flow", "json"]))
def test_what_configure_and_init_write_dvc_reads_as_mlc_does(recipe: dict[str, Any], style: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, over = Path(folder) / "params.yaml", Path(folder) / "over.yaml"
        shutil.copy(ROOT / "params.yaml", path)
        before = path.read_bytes()
        written(recipe, style, over)
        try:
            recipe = read_yaml(over)  # of some control characters YAML makes a space
            overlay(path, over)
        except MlcError as error:  # what it says in brackets and without quotes, or what the settings refuse
            assert path.read_bytes() == before
            assert "over.yaml" in str(error) and "cannot be written" not in str(error)
            event("refused")
            return
        event("written")
        content = load_yaml(str(path))
        assert content == read_yaml(path) == read_yaml(path, YAML(typ="safe", pure=True))
        assert told(content, recipe)
        load_settings(path)
        # Comments stay, but for that of the judge which is replaced.
        comments = {line.partition(" #")[2] for line in before.decode().splitlines()} - {
            " or refusal, guard, llm: docs/judges.md"
        }
        assert comments <= {line.partition(" #")[2] for line in path.read_text(encoding="utf-8").splitlines()}

        made = Path(folder) / "made.yaml"
        _params(Answers("a/b", "a" * 40, "en", ("en", "sw"), ("bn",), "mlc", (str(over),)), {}, made)
        content = load_yaml(str(made))
        assert content == read_yaml(made) == read_yaml(made, YAML(typ="safe", pure=True))
        assert told({**content, "base": recipe.get("base")}, recipe)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("  judges: [{name: llm, base_url: http://localhost:8000/v1, model: m}]", 38),
        ("  judges: [{name: guard, format: x, model: llama3.1:8b, revision: null}]", 52),
        ("  judges: [a?b]", 13),
        ('  judges: ["\\ud83d"]', 15),
    ],
)
def test_what_dvc_cannot_read_is_refused_with_the_place_and_what_to_do(tmp_path: Path, line: str, column: int) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"evaluate:\n{line}\n")
    with pytest.raises(ParseError):
        load_yaml(str(path))
    for read in (load_settings, lambda path: overlay(path, ROOT / "recipes" / "paradigm-sft.yaml")):
        with pytest.raises(MlcError) as refused:
            read(path)
        assert f"{path} is not valid YAML, line 2, column {column}: " in str(refused.value)
        assert re.search(
            "which DVC cannot read: (put the whole value in quotes|write the character itself)$", str(refused.value)
        )
    quoted = re.sub(r"(\w+://[^,]+|llama3.1:8b|a\?b)", r'"\1"', line)
    if quoted != line:  # what it says to do is what helps
        path.write_text(f"evaluate:\n{quoted}\n")
        assert load_yaml(str(path)) == read_yaml(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train:\n\t- 1\n", "is not valid YAML, line 2, column 1: found character that cannot start any token"),
        (b"train: [1,\n", "is not valid YAML, line 2, column 1: did not find expected node content"),
        (b"train: 1\ntrain: 2\n", "is not valid YAML, line 2, column 1: found duplicate key"),
        (b"base: {model: \xff}\n", "is not UTF-8: byte 14 is 0xff"),
        (
            b"base: {model: 2026-11-30}\n",
            "holds a value that no setting has (Object of type date is not JSON serializable)",
        ),
        (b"base: &a [*a]\n", "holds a value that no setting has (Circular reference detected)"),
        (b"", "holds no settings"),
        (b"- 1\n", "holds no settings"),
        (b"text\n", "holds no settings"),
    ],
)
def test_a_recipe_that_is_none_is_said_to_be(tmp_path: Path, content: bytes, message: str) -> None:
    path, recipe = tmp_path / "params.yaml", tmp_path / "recipe.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    recipe.write_bytes(content)
    answers = Answers("a/b", "a" * 40, "en", ("en", "sw"), ("bn",), "mlc", (str(recipe),))
    for write in (lambda: overlay(path, recipe), lambda: _params(answers, {}, tmp_path / "made.yaml")):
        with pytest.raises(MlcError) as refused:
            write()
        assert f"{recipe} {message}" in str(refused.value)
    assert path.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_the_quotes_of_a_recipe_and_of_the_settings_stay(tmp_path: Path) -> None:
    path, recipe = tmp_path / "params.yaml", tmp_path / "recipe.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("model: embedded-base", "model: 'embedded-base'"))
    recipe.write_text('tasks: {names: ["m:{language}"], folder: null, limit: null}\n')
    overlay(path, recipe)
    assert "model: 'embedded-base'" in path.read_text() and '"m:{language}"' in path.read_text()
    assert load_yaml(str(path))["tasks"]["names"] == ["m:{language}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("params.yaml", "a: [http://x:1]\n"),
        ("dvc.yaml", "stages: [http://x:1]\n"),
        ("dvc.lock", "schema: [http://x:1]\n"),
        ("data.dvc", "outs: [http://x:1]\n"),
    ],
)
def test_doctor_names_the_file_that_dvc_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    from dvc.repo import Repo

    from mlc.paths import Paths

    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("params.yaml").write_text("a: 1\n")
    Path("dvc.yaml").write_text("stages: {s: {cmd: 'true', params: [a], outs: [o]}}\n")
    Path(name).write_text(text)
    (check,) = connections.dvc(Paths())
    assert check.state == "problem" and check.todo == f"mend {name}, or bring back the committed one"
    assert name in check.found and "line 1, column" in check.found
