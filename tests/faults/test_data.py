"""Commands that change prompts and settings: killed at any instant, on a full disk, and two at once.

No row, language, fix or setting is lost at any moment, no file is ever half there, and the same command completes it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from building import ROOT, git
from harness import SEED, SHARE, Ended, Project
from invariants import Table, debris
from ruamel.yaml import YAML
from test_disk import AMPLE, mount, resize, used
from test_kills import instants

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
ROWS = 24
ECHO = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    text = f"{request['target']}: {request['text'].upper()}"
    print(json.dumps({"id": request["id"], "translation": text}), flush=True)
"""
TRANSLATE = f"translate command data/evaluation.jsonl --run '{sys.executable} echo.py' --command-version 1 --languages"
IMPORT = "import {0}.yaml {0}.csv --into data/evaluation.jsonl"
FIX = "quarantine fix evaluation {} sw --text Ninawezaje? --why typo --who Amina"
INIT = "init new --yes --model base --served en,sw --data prompts --json"


# What git and DVC write bit by bit, each by itself: it has to be right in the end.
THEIRS = re.compile(r"\.gitignore$|\.dvcignore$|\.dvc$|/\.dvc/")


class Changing(NamedTuple):
    """A command that changes something, what it makes of it (as ``content`` has it), and how often it is killed right
    before an effect and at a random time."""

    command: str
    effects: int = 10
    times: int = 3


def commands(first: str, second: str) -> dict[str, Changing]:
    return {
        "import": Changing(IMPORT.format("kettle")),
        "translate": Changing(f"{TRANSLATE} xh"),
        "quarantine fix": Changing(FIX.format(first)),
        "quarantine release": Changing(f"quarantine release evaluation {second} sw --why 'a name' --who Amina"),
        "configure": Changing("configure one.yaml"),
        "init": Changing(INIT, 24, 6),
    }


NAMES = tuple(commands("", ""))
PAIRS = (
    ("import", IMPORT.format("bicycle")),
    ("import", FIX.format("{0}")),
    ("import", f"{TRANSLATE} zu"),
    ("translate", f"{TRANSLATE} zu"),
    ("translate", FIX.format("{0}")),
    ("quarantine fix", FIX.format("{1}")),
    ("configure", "configure two.yaml"),
)


class Data:
    """A project of prompts and settings alone."""

    def __init__(self, folder: Path, base: Path) -> None:
        from mlc.embedded import prompts
        from mlc.files import write_jsonl
        from mlc.prompts.schema import SETS, write_prompts

        self.project = Project(folder)
        root = self.project.root
        for name in SETS:
            write_prompts(root / "data" / f"{name}.jsonl", prompts.rows(name)[:ROWS])
        shutil.copytree(root / "data", root / "prompts")
        shutil.copytree(base, root / "base")
        shutil.copy(ROOT / "params.yaml", root)
        rows = prompts.rows("evaluation")
        self.ids = [row.id for row in rows[:2]]
        held = {"set": "evaluation", "id": rows[1].id, "language": "sw", "text": rows[1].prompts["sw"]}
        held |= {"source_text": rows[1].prompts["en"]}
        held |= {"reasons": [{"check": "script_share", "value": 0.1, "threshold": 0.5, "message": "found"}]}
        write_jsonl(root / "artifacts/prompts/quarantine.jsonl", [held])
        columns = {"id": "id", "intent": "benign", "prompts": {"en": "text"}}
        for name in ("kettle", "bicycle"):
            lines = [f"{number},How do I mend the {name} {number}?" for number in range(ROWS)]
            (root / f"{name}.csv").write_text("\n".join(["id,text", *lines]) + "\n")
            YAML().dump({"source": name, "format": "csv"} | columns, root / f"{name}.yaml")
        (root / "one.yaml").write_text("train: {seed: 11}\n")
        (root / "two.yaml").write_text("evaluate: {max_new_tokens: 33}\n")
        (root / "echo.py").write_text(ECHO)
        git(root, "init", "-q")
        self.project.keep("before")
        self.commands = commands(*self.ids)
        for changing in self.commands.values():  # what it imports, every child has from here on
            self.project.restore("before")
            self.project.done(*words(changing.command))
        self.project.restore("before")
        self.start = content(root)


def words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)


def content(root: Path) -> dict[str, Any]:
    """All that may not be lost, by what it is: a row's text, a decision, a setting, a file of a new project.

    A file that is not whole raises.
    """
    from mlc.paths import Paths
    from mlc.prompts.schema import read_prompts
    from mlc.quality.decisions import Fix, Release, fixes_file, read_decisions, releases_file

    found: dict[str, Any] = {}
    folders = [path for path in (root, root / "new") if (path / "data").is_dir()]
    for folder in folders:
        at = folder.name if folder != root else ""
        for path in (folder / "data").glob("*.jsonl"):
            if path.name in ("fixes.jsonl", "releases.jsonl"):
                continue
            for row in read_prompts(path):
                for tag, text in row.prompts.items():
                    found[f"{at}/{path.name} {row.id} {tag}"] = text
        for fix in read_decisions(fixes_file(Paths(folder)), Fix):
            found[f"{at}/fix {fix.key}"] = (fix.before, fix.after)
        for release in read_decisions(releases_file(Paths(folder)), Release):
            found[f"{at}/release {release.key}"] = release.sha256
        if (folder / "params.yaml").exists():
            for key, value in leaves(YAML(typ="safe", pure=True).load(folder / "params.yaml")):
                found[f"{at}/params {key}"] = value
    for path in (root / "new").rglob("*"):
        name = path.relative_to(root)
        if path.is_file() and not {".git", ".cache", "cache", "tmp", "data"} & set(name.parts):
            found[f"file {name}"] = path.read_bytes().hex()[-400:]
    return found


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    else:
        yield key, json.dumps(value)


def half(root: Path, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What may not be at any moment: something that is neither as before nor as it becomes."""
    try:
        now = content(root)
    except Exception as error:  # a file that is not whole, whatever its reader says
        return [f"unreadable: {error}"]
    violations = [
        f"{key} is {now.get(key)!r}"
        for key in before.keys() | now.keys()
        if now.get(key) not in (before.get(key), after.get(key)) and not THEIRS.search(key)
    ]
    if (root / "new/params.yaml").exists() and now != after:
        violations.append("params.yaml is there before the project is whole")
    return violations


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, _one_thread: None, tiny_base: Path) -> Data:
    return Data(tmp_path_factory.mktemp("data"), tiny_base)


def check(data: Data, table: Table, fault: str, name: str, after: dict[str, Any], ended: Ended, how: str) -> list[str]:
    """Looks at what is there, runs the command again, and looks at what is there then."""
    root = data.project.root
    wrong = half(root, data.start, after)
    again = data.project.mlc(*words(data.commands[name].command))
    whole = (root / "new/params.yaml").exists() and "this is a project already" in again.output
    if again.code and not whole:
        wrong.append(f"run again it ends with {again.code}: {again.output[-1500:]}")
    now = content(root)
    wrong += [f"{k} is {now.get(k)!r} in the end" for k in after.keys() | now.keys() if now.get(k) != after.get(k)]
    wrong += [f"left behind: {left}" for left in debris(root)]
    hit = ended.code != 0
    outcome = "the next run completes" if hit else "the command had ended"
    violations = [f"{how}: {violation}" for violation in wrong]
    table.add(fault, name, outcome, violations)
    return [f"{violation} (the command: {ended.code} {ended.output[-300:]})" for violation in violations]


def finished(data: Data, name: str) -> dict[str, Any]:
    data.project.restore("before")
    data.project.done(*words(data.commands[name].command))
    return content(data.project.root)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_killed_at_any_instant_is_completed_by_the_next(data: Data, table: Table, name: str) -> None:
    changing, project = data.commands[name], data.project
    arguments = tuple(words(changing.command))
    after = finished(data, name)
    project.restore("before")
    effects = project.count(*arguments)
    rng, violations = random.Random(f"{SEED} {name}"), []
    for at in instants(effects, max(1, round(SHARE * changing.effects)), rng):
        project.restore("before")
        ended = project.killed_before(at, *arguments)
        violations += check(data, table, "kill -9", name, after, ended, f"before effect {at} ({effects[at]})")
    for _ in range(round(SHARE * changing.times)):
        project.restore("before")
        seconds = rng.uniform(0.02, 0.95) * project.times[arguments]
        ended = project.killed_after(seconds, *arguments)
        violations += check(data, table, "kill -9", name, after, ended, f"after {seconds:.2f} s")
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_no_harm(data: Data, table: Table, name: str) -> None:
    project, root = data.project, data.project.root
    after, arguments = finished(data, name), words(data.commands[name].command)
    shutil.rmtree(root)
    root.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={AMPLE}", "none", str(root)):
        pytest.skip("mounting a tmpfs takes root")
    violations = []
    try:
        project.restore("before")
        before = used(root)
        project.done(*arguments)
        takes = max(used(root) - before, 16384)
        for share in (0.02, 0.3, 0.6, 0.9):
            project.restore("before")
            resize(root, used(root) + max(4096, int(share * takes)))
            ended = project.mlc(*arguments)
            resize(root, AMPLE)
            violations += check(data, table, "disk full", name, after, ended, f"{share:.0%} of the space it takes")
            if ended.code and not (ended.code == 5 and ended.explained):
                violations.append(f"{share:.0%}: it ends with {ended.code}: {ended.output[-1500:]}")
    finally:
        os.system(f"umount {root}")
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_two_commands_at_once_lose_nothing(data: Data, table: Table, name: str, other: str) -> None:
    project, second = data.project, words(other.format(*data.ids))
    first = words(data.commands[name].command)
    project.restore("before")
    project.done(*first)
    project.done(*second)
    after = content(project.root)
    if name == "translate" and "translate" not in other:  # a row that changes meanwhile is translated next time
        after = {key: text for key, text in after.items() if not key.endswith(" xh")}
    rng, violations = random.Random(f"{SEED} {name} {other}"), []
    for _ in range(4):
        project.restore("before")
        one = project.start(*first)
        time.sleep(pause := rng.uniform(0, 0.9) * project.times[tuple(first)])
        two = project.start(*second)
        ends = [one.wait(), two.wait()]
        now = content(project.root)
        wrong = [f"{ended.code}: {ended.output[-1500:]}" for ended in ends if ended.code]
        wrong += [f"{key} is {now.get(key)!r}" for key, value in after.items() if now.get(key) != value]
        wrong += [f"left behind: {left}" for left in debris(project.root)]
        what = re.sub(" .*", "", other) if not other.startswith("quarantine") else "quarantine fix"
        table.add(f"{what} at the same time", name, "nothing is lost", [f"{pause:.2f} s: {w}" for w in wrong])
        violations += wrong
    assert not violations, "\n".join(violations)
