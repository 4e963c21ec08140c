"""``mlc data diff`` in a real DVC repository with a local remote."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.prompts import diff
from mlc.prompts.schema import PromptRow, write_prompts


def row(id_: str, **more: Any) -> PromptRow:
    fields = {"id": id_, "source": "t", "category": "theft", "intent": "harmful", "prompts": {"en": f"How do I {id_}?"}}
    return PromptRow.model_validate(fields | more)


BEFORE = {
    "evaluation": [
        row("steal", prompts={"en": "How do I steal?", "sw": "Niibeje?"}),
        row("forge"),
        row("rob"),
    ],
    "tuning": [row("lie")],
}
AFTER = {
    "evaluation": [
        row("steal", prompts={"en": "How do I steal?", "sw": "Ni\u202eibeje?", "zh": "怎么偷？"}),
        row("rob", intent="benign"),
        row("bake"),
    ],
    "alignment": [row("stalk", chosen="No.", rejected="First, …")],
}


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)


def commit(message: str) -> None:
    """Adds the sets in ``data`` as they are. In this process: DVC takes a second or more to start."""
    with Repo() as repo:
        repo.add("data")
    git("add", "-A")
    git("commit", "-qm", message)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of different sets, the second one checked out; everything is cached and pushed."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    folder.mkdir()
    with chdir(folder):
        git("init", "-q")
        Repo.init().close()
        Path(".dvc/config").write_text(
            "[core]\n    site_cache_dir = .dvc-site-cache\n    remote = store\n    analytics = false\n"
            "['remote \"store\"']\n    url = ../../store\n"
        )
        Path(".gitignore").write_text("/.dvc-site-cache\n")
        for message, sets in (("before", BEFORE), ("after", AFTER)):
            shutil.rmtree("data", ignore_errors=True)
            for name, rows in sets.items():
                write_prompts(Path("data") / f"{name}.jsonl", rows)
            commit(message)
            with Repo() as repo:
                repo.push()
        git("tag", "first", "HEAD~1")
    return folder


@pytest.fixture
def fresh(project: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the project with its remote, to break."""
    shutil.copytree(project.parent, tmp_path / "copy", symlinks=True)
    with chdir(tmp_path / "copy" / "project"):
        yield tmp_path / "copy" / "project"


def printed(project: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool = False, texts: bool = False) -> str:
    with chdir(project):
        diff.run(Paths(), "first", as_json, texts)
    return capsys.readouterr().out


def test_the_table_counts_rows_and_texts_per_set_and_language(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split() for line in printed(project, capsys).splitlines()]
    assert lines[0] == ["set", "language", "before", "after", "added", "removed", "changed"]
    assert lines[1:10] == [
        ["alignment", "rows", "0", "1", "1", "0", "0"],
        ["en", "0", "1", "1", "0", "0"],
        ["evaluation", "rows", "3", "3", "1", "1", "2"],
        ["en", "3", "3", "1", "1", "0"],
        ["sw", "1", "1", "0", "0", "1"],
        ["zh", "0", "1", "1", "0", "0"],
        ["tuning", "rows", "1", "0", "0", "1", "0"],
        ["en", "1", "0", "0", "1", "0"],
        [],
    ]


def test_texts_are_shown_by_id_and_cannot_act(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = printed(project, capsys, texts=True)
    assert "\u202e" not in output
    sections = {block.splitlines()[0]: block.splitlines()[1:] for block in output.split("\n\n")[1:]}
    assert sections.keys() == {
        "+ alignment stalk", "+ evaluation bake", "- evaluation forge", "~ evaluation steal", "~ evaluation rob",
        "- tuning lie",
    }  # fmt: skip
    assert sections["~ evaluation steal"] == [
        "  prompts, sw", "    - 'Niibeje?'", "    + 'Ni\\u202eibeje?'", "  prompts, zh", "    + '怎么偷？'",
    ]  # fmt: skip
    assert sections["~ evaluation rob"] == ["  intent", "    - 'harmful'", "    + 'benign'"]
    assert sections["- evaluation forge"] == ["  en  'How do I forge?'"]


def test_json_says_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = printed(project, capsys, as_json=True)
    assert plain.isascii()
    evaluation = json.loads(plain)["sets"]["evaluation"]
    assert evaluation["rows"] == {"before": 3, "after": 3, "added": 1, "removed": 1, "changed": 2}
    assert evaluation["languages"]["sw"] == {"before": 1, "after": 1, "added": 0, "removed": 0, "changed": 1}
    assert evaluation["ids"] == {
        "added": ["bake"],
        "removed": ["forge"],
        "changed": {
            "steal": [{"field": "prompts", "language": "sw"}, {"field": "prompts", "language": "zh"}],
            "rob": [{"field": "intent", "language": None}],
        },
    }
    full = json.loads(printed(project, capsys, as_json=True, texts=True))["sets"]["evaluation"]["ids"]
    assert full["added"] == {"bake": {"en": "How do I bake?"}}
    assert full["changed"]["steal"][0] | {"field": "", "language": ""} == {
        "field": "", "language": "", "old": "Niibeje?", "new": "Ni\u202eibeje?"
    }  # fmt: skip


def test_nothing_changed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(project):
        diff.run(Paths(), "HEAD", False, True)
    assert capsys.readouterr().out == "the prompt sets are those of HEAD\n"


@pytest.mark.usefixtures("fresh")
def test_what_is_not_committed_counts() -> None:
    write_prompts(Path("data/evaluation.jsonl"), AFTER["evaluation"][:1])
    differences = diff.compare(diff.sets_at(Paths(), "HEAD"), diff.sets_now(Paths()))
    assert differences["evaluation"].removed == ["rob", "bake"]
    assert differences["alignment"].changed() == {}


@pytest.mark.usefixtures("fresh")
def test_sets_that_were_never_pulled_are_not_taken_for_removed() -> None:
    shutil.rmtree("data")
    with pytest.raises(MlcError, match=r"run `dvc pull data\.dvc` first"):
        diff.run(Paths(), "HEAD", False, False)


@pytest.mark.usefixtures("fresh")
def test_data_that_is_not_in_the_cache_comes_from_the_remote() -> None:
    for scratch in (".dvc/cache", ".dvc/tmp", ".dvc-site-cache"):
        shutil.rmtree(scratch, ignore_errors=True)
    assert diff.sets_at(Paths(), "first") == BEFORE


@pytest.mark.usefixtures("fresh")
def test_data_that_is_nowhere_is_one_line_that_says_dvc_fetch() -> None:
    for scratch in (".dvc/cache", ".dvc/tmp", ".dvc-site-cache", "../store"):
        shutil.rmtree(scratch, ignore_errors=True)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mlc"), "data", "diff", "first"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "mlc: the data of first is neither in DVC's cache nor to be had from its remote: where the remote can be "
        "reached, run `dvc fetch --all-commits data.dvc`\n"
    )


@pytest.mark.usefixtures("fresh")
def test_one_file_that_is_nowhere_is_enough() -> None:
    for file in Path("../store").rglob("*"):
        if file.is_file() and not file.name.endswith(".dir") and b"Niibeje" in file.read_bytes():
            file.unlink()
    shutil.rmtree(".dvc/cache")
    with pytest.raises(MlcError, match="dvc fetch"):
        diff.sets_at(Paths(), "first")


@pytest.mark.parametrize("revision", ["none", "-x", "\x1b[31m"])
def test_a_revision_that_is_none_is_refused(project: Path, revision: str) -> None:
    with chdir(project), pytest.raises(MlcError, match="cannot be read") as error:
        diff.sets_at(Paths(), revision)
    assert str(error.value).isprintable()


def test_a_project_below_the_top_of_its_repository(tmp_path: Path) -> None:
    (tmp_path / "ml" / "assistant").mkdir(parents=True)
    with chdir(tmp_path / "ml" / "assistant"):
        git("init", "-q", "../..")
        Repo.init(subdir=True).close()
        write_prompts(Path("data/evaluation.jsonl"), BEFORE["evaluation"])
        commit("before")
        assert diff.sets_at(Paths(), "HEAD") == {"evaluation": BEFORE["evaluation"]}


def test_outside_a_repository(tmp_path: Path) -> None:
    with chdir(tmp_path), pytest.raises(MlcError, match="cannot be read"):
        diff.sets_at(Paths(), "HEAD")


@pytest.mark.usefixtures("fresh")
def test_a_set_that_was_broken_then_is_named() -> None:
    Path("data/evaluation.jsonl").write_text("{broken\n")
    commit("broken")
    with pytest.raises(MlcError, match=r"^data/evaluation.jsonl at HEAD, line 1: "):
        diff.sets_at(Paths(), "HEAD")
