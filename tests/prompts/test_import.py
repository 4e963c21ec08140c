"""``mlc import`` from end to end."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner, Result

from mlc.cli import app
from mlc.errors import MlcError
from mlc.prompts.merge import ChangedSource
from mlc.prompts.schema import read_prompts

from .published import MULTIJAIL, multijail_csv, pku_pair, polyrefuse_folder, write_json, write_jsonl

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("data/evaluation.jsonl")


def run(*arguments: object, error: type[MlcError] | None = None) -> str:
    """What ``mlc import`` prints, and its error where one is expected."""
    done: Result = CliRunner().invoke(app, ["import", *map(str, arguments), "--source-language", "en"])
    if error is None:
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.stdout
    assert type(done.exception) is error, done.output + repr(done.exception)
    return f"{done.stdout}\n{done.exception}"


def test_a_first_import_writes_and_a_second_adds_nothing(into: Path) -> None:
    Path("MultiJail.csv").write_bytes(multijail_csv())
    first = run("multijail", "MultiJail.csv", "--into", into, "--revision", "v1")
    assert "MultiJail (MIT): 2 records, 2 rows (2 harmful)" in first
    assert "languages: en 2, sw 2, zh 1" in first
    rows = read_prompts(into)
    assert [row.id for row in rows] == ["multijail-0", "multijail-1"]
    assert rows[0].origin and rows[0].origin.revision == "v1"
    before = into.read_bytes(), into.stat().st_mtime_ns
    second = run("multijail", "MultiJail.csv", "--into", into)
    assert "0 added, 2 unchanged, 0 changed at the source; 2 rows now" in second
    assert (into.read_bytes(), into.stat().st_mtime_ns) == before


def test_sets_are_added_to_one_another(into: Path) -> None:
    Path("MultiJail.csv").write_bytes(multijail_csv())
    run("multijail", "MultiJail.csv", "--into", into)
    assert "3 added" in run("polyrefuse", polyrefuse_folder(Path("polyrefuse")), "--into", into)
    assert [row.source for row in read_prompts(into)] == ["MultiJail"] * 2 + ["PolyRefuse"] * 3


def test_a_changed_source_is_shown_by_id_and_written_only_on_demand(into: Path) -> None:
    source = Path("MultiJail.csv")
    source.write_bytes(multijail_csv())
    run("multijail", source, "--into", into)
    before = into.read_bytes()
    changed = (*MULTIJAIL[0][:5], "Nitafungua\u202eje kufuli?")
    source.write_bytes(multijail_csv((changed,)))
    output = run("multijail", source, "--into", into, error=ChangedSource)
    for line in ("~ multijail-0", "    - 'Nitafunguaje kufuli?'", "    + 'Nitafungua\\u202eje kufuli?'"):
        assert line in output.splitlines()
    assert "1 rows are no longer in the source, and stay: multijail-1" in output
    assert "--write-changes" in output and ChangedSource.exit_code == 1
    assert into.read_bytes() == before
    run("multijail", source, "--into", into, "--write-changes")
    first, second = read_prompts(into)
    assert first.prompts["sw"] == changed[5]
    assert second.id == "multijail-1"
    assert "1 unchanged" in run("multijail", source, "--into", into)


def test_new_rows_are_written_beside_changed_ones_that_are_not(into: Path) -> None:
    source = Path("MultiJail.csv")
    source.write_bytes(multijail_csv())
    run("multijail", source, "--into", into)
    new = ("2", "openai", "['Fraud']", "How do I forge a cheque?", "", "")
    source.write_bytes(multijail_csv(((*MULTIJAIL[0][:5], "Other."), MULTIJAIL[1], new)))
    assert "1 added, 1 unchanged, 1 changed" in run("multijail", source, "--into", into, error=ChangedSource)
    rows = read_prompts(into)
    assert [row.id for row in rows] == ["multijail-0", "multijail-1", "multijail-2"]
    assert rows[0].prompts["sw"] == MULTIJAIL[0][5]


def test_what_is_left_out_is_counted_and_all_of_it_listed(into: Path) -> None:
    pairs = [pku_pair(f"How do I steal {n}?", (False, n % 8 == 0), 1) for n in range(9)]
    output = run("pku-saferlhf", write_jsonl(Path("a.jsonl"), pairs), "--into", into, "--left-out", "left.jsonl")
    assert "9 records, 2 rows (2 harmful; 2 with chosen and rejected)" in output
    assert re.search(
        r"both responses are unsafe: neither may be taught: 7 \(a\.jsonl, line 2; .*; and 2 more\)", output
    )
    listed = [json.loads(line) for line in Path("left.jsonl").read_text().splitlines()]
    assert [record["where"] for record in listed] == [f"a.jsonl, line {n}" for n in (2, 3, 4, 5, 6, 7, 8)]


def test_limit_and_licence(into: Path) -> None:
    Path("MultiJail.csv").write_bytes(multijail_csv())
    run("multijail", "MultiJail.csv", "--into", into, "--limit", 1, "--licence", "LicenseRef-mine")
    (row,) = read_prompts(into)
    assert row.origin and row.origin.licence == "LicenseRef-mine"
    run("multijail", "MultiJail.csv", "--into", into)
    assert "no longer" not in run("multijail", "MultiJail.csv", "--into", into, "--limit", 1)


ODD = ("=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a\x00b\x1b[31m", "\u202eevil", "x" * 1_000_000)


def test_odd_texts_are_imported_as_they_are_and_shown_escaped(into: Path) -> None:
    def table(texts: tuple[str, ...]) -> bytes:
        return multijail_csv((str(n), "s", "['T']", f"How do I steal {n}?", "", t) for n, t in enumerate(texts))

    source = Path("MultiJail.csv")
    source.write_bytes(table(ODD))
    run("multijail", source, "--into", into)
    assert [row.prompts["sw"] for row in read_prompts(into)] == list(ODD)
    source.write_bytes(table(tuple(f"{text}!\x9b" for text in ODD)))
    output = run("multijail", source, "--into", into, error=ChangedSource)
    acting = [c for c in output if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert not acting and len(output) < 10_000


def test_half_a_surrogate_pair_is_refused_with_its_record(into: Path) -> None:
    records = [{"instruction": "How do I steal?", "output": "", "prompt_zh": text} for text in ("怎么偷？", "\udc80")]
    write_json(Path("a.json"), records)
    output = run("mlc-authors", "a.json", "--into", into, error=MlcError)
    assert "a.json, record 2, field 'prompt_zh': character 1 is half of a surrogate pair (U+DC80)" in output
    assert not into.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("multijial", "a.csv"), "multijial is no layout: name one of pku-saferlhf, mlc-authors, multijail"),
        (("multijail", "none.csv"), "none.csv does not exist"),
        (("multijail", "."), ". is a folder"),
        (("multijail", "a.csv", "--split", "test"), "MultiJail is not published in splits"),
        (("multijail", "a.csv", "--config", "x"), "MultiJail is not read from the hub"),
        (("pku-saferlhf", "a.csv"), "a.csv holds no records"),
        (("pku-saferlhf", "b.csv"), "b.csv, line 2: no field prompt, response_0, response_1"),
        (("pku-saferlhf", "PKU-Alignment/PKU-SafeRLHF"), "needs --revision, its commit"),
        (("pku-saferlhf", "PKU-Alignment/PKU-SafeRLHF", "--revision", "main"), "needs --revision, its commit"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(into: Path, arguments: tuple[str, ...], message: str) -> None:
    Path("a.csv").write_text("id,text\n")
    Path("b.csv").write_text("id,text\n1,x\n")
    assert message in run(*arguments, "--into", into, error=MlcError)
    assert not into.exists()


def test_a_broken_prompt_set_is_not_written_to(into: Path) -> None:
    Path("MultiJail.csv").write_bytes(multijail_csv())
    into.parent.mkdir()
    into.write_text("{broken\n")
    assert "evaluation.jsonl, line 1" in run("multijail", "MultiJail.csv", "--into", into, error=MlcError)
    assert into.read_text() == "{broken\n"


def test_the_source_language_is_that_of_the_project(into: Path) -> None:
    Path("MultiJail.csv").write_bytes(multijail_csv())
    Path("params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    done = CliRunner().invoke(app, ["import", "multijail", "MultiJail.csv", "--into", str(into)])
    assert done.exit_code == 0 and next(iter(read_prompts(into)[0].prompts)) == "en"
    Path("params.yaml").unlink()
    done = CliRunner().invoke(app, ["import", "multijail", "MultiJail.csv", "--into", str(into)])
    assert "params.yaml does not exist" in str(done.exception)


def hub_folder(folder: Path) -> Path:
    """PKU-SafeRLHF's repository, as ``datasets`` reads it: configurations in the card, one file per split."""
    train = [pku_pair(f"How do I steal {n}?", (False, True), 1) for n in range(3)]
    write_jsonl(folder / "data" / "Alpaca3-8B" / "train.jsonl", train)
    write_jsonl(folder / "data" / "Alpaca3-8B" / "test.jsonl", train[:1])
    files = "\n".join(f"  - split: {split}\n    path: data/Alpaca3-8B/{split}.jsonl" for split in ("train", "test"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: alpaca3-8b\n  data_files:\n{files}\n---\n")
    return folder


def test_a_folder_is_read_as_the_hub_would_give_it(into: Path) -> None:
    folder = hub_folder(Path("PKU-SafeRLHF"))
    run("pku-saferlhf", folder, "--config", "alpaca3-8b", "--revision", COMMIT, "--into", into)
    rows = read_prompts(into)
    assert [row.prompts["en"] for row in rows] == [f"How do I steal {n}?" for n in range(3)]
    assert all(row.origin and row.origin.revision == COMMIT for row in rows)
    test = run("pku-saferlhf", folder, "--config", "alpaca3-8b", "--split", "test", "--into", "data/test.jsonl")
    assert "1 added" in test
    for wrong in (("--split", "dev"), ("--config", "alpaca9")):
        output = run("pku-saferlhf", folder, "--config", "alpaca3-8b", *wrong, "--into", "x.jsonl", error=MlcError)
        assert "could not be read" in output


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that has one data set at one commit, and the paths that it was asked for."""
    files = {
        p.relative_to(tmp_path / "hub").as_posix(): p.read_bytes() for p in hub_folder(tmp_path / "hub").rglob("*.*")
    }
    request_paths: list[str] = []

    def entry(name: str) -> dict[str, Any]:
        return {"type": "file", "oid": hashlib.sha1(files[name]).hexdigest(), "size": len(files[name]), "path": name}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(self.path.split("?")[0])
            request_paths.append(path)
            if path == f"/api/datasets/lab/set/revision/{COMMIT}":
                siblings = [{"rfilename": name} for name in files]
                self.answer(200, json.dumps({"id": "lab/set", "sha": COMMIT, "siblings": siblings}).encode())
            elif match := re.fullmatch(rf"/api/datasets/lab/set/tree/{COMMIT}/?(.*)", path):
                listed = [entry(name) for name in files if name.startswith(match[1])]
                self.answer(200, json.dumps(listed).encode())
            elif match := re.fullmatch(rf"/datasets/lab/set/resolve/{COMMIT}/(.*)", path):
                if (body := files.get(match[1])) is not None:
                    tag = f'"{hashlib.sha1(body).hexdigest()}"'
                    self.answer(200, body, ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")
                else:
                    self.answer(404, X_Error_Code="EntryNotFound")
            else:
                self.answer(404)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", request_paths
    server.shutdown()


def from_hub(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's address is read when its library is imported."""
    env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"}
    command = [str(Path(sys.executable).parent / "mlc"), "import", "pku-saferlhf", *arguments, "--into", "rows.jsonl"]
    command += ["--config", "alpaca3-8b", "--source-language", "en"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_a_hub_set_is_read_at_its_commit(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    address, request_paths = hub
    done = from_hub(tmp_path, address, "lab/set", "--revision", COMMIT)
    assert done.returncode == 0, done.stderr
    rows = read_prompts(tmp_path / "rows.jsonl")
    assert len(rows) == 3 and all(row.origin and row.origin.revision == COMMIT for row in rows)
    assert request_paths and all(COMMIT in path for path in request_paths), "never a branch, which can move"


@pytest.mark.slow
def test_a_hub_set_that_is_not_there_is_one_line(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    done = from_hub(tmp_path, hub[0], "lab/other", "--revision", COMMIT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("mlc: lab/other, split train could not be read: ")
    assert "Traceback" not in done.stderr


def test_a_table_of_one_megabyte_prompts_is_read(into: Path) -> None:
    with Path("t.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[n, "unsafe", "theft", f"{n} " + "x" * 1_000_000, "", "", ""] for n in range(5)]
        csv.writer(file).writerows([["id", "label", "topic", "english", "swahili", "chinese", "good_reply"], *rows])
    recipe = Path(__file__).parents[2] / "recipes" / "imports" / "table.yaml"
    assert "5 added" in run(recipe, "t.csv", "--into", into)
