"""Releasing and fixing texts in quarantine: lines written into the data folder, and what must hold before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from mlc.errors import MlcError
from mlc.files import first_mistake, replacing
from mlc.paths import Paths
from mlc.prompts.changing import changing
from mlc.prompts.schema import PromptRow
from mlc.quality.decisions import (
    D,
    Decision,
    Fix,
    Key,
    Part,
    Quarantined,
    Release,
    fixes_file,
    key_of,
    read_decisions,
    releases_file,
    text_hash,
)
from mlc.text import visible


def _named(key: Key) -> str:
    return visible(" ".join(key))


def user(root: Path) -> str:
    """git's user.name.

    Raises:
        MlcError: git has none.
    """
    try:
        completed = subprocess.run(["git", "-C", str(root), "config", "user.name"], capture_output=True, text=True)
        name = completed.stdout.strip()
    except FileNotFoundError:
        name = ""
    if not name:
        raise MlcError("who decides this? git has no user.name: give --who")
    return name


def held(paths: Paths) -> Iterator[Quarantined]:
    """The lines of quarantine.jsonl; those that an older mlc wrote are all about prompts.

    Raises:
        MlcError: there is no quarantine.jsonl, or it is broken.
    """
    path = paths.prompts / "quarantine.jsonl"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield cast(Quarantined, {"part": "prompt", **json.loads(line)})
                except ValueError:
                    raise MlcError(f"{path}, line {number} is not JSON: run `mlc validate` again") from None
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: run `mlc validate` first") from None


def _key(record: Quarantined) -> Key:
    return key_of(record["set"], record["id"], record["language"], record["part"])


def _every(paths: Paths, name: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every line of a set and its content, which is empty for an empty line."""
    path = paths.data / f"{name}.jsonl"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    content = json.loads(line) if line.strip() else {}
                except ValueError:
                    content = None
                if not isinstance(content, dict):
                    raise MlcError(f"{path}, line {number} is not a JSON object: mend it first")
                yield line, content
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: run `dvc pull data.dvc` first") from None


def _lines(paths: Paths, name: str, row_id: str) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Every line of a set, and its content where it is the row asked for."""
    exists = False
    for line, content in _every(paths, name):
        matches = content.get("id") == row_id
        exists |= matches
        yield line, content if matches else None
    if not exists:
        path = paths.data / f"{name}.jsonl"
        raise MlcError(f"{path} has no row {row_id!r}: `mlc quarantine list --set {name}` shows what is in quarantine")


def _row(content: dict[str, Any], what: str) -> PromptRow:
    try:
        return PromptRow.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise MlcError(f"{what}{first_mistake(error)}") from None


def find(paths: Paths, name: str, row_id: str) -> PromptRow:
    """A row of the data as it is now.

    Raises:
        MlcError: the set or the row does not exist, or breaks the schema.
    """
    (content,) = [content for _, content in _lines(paths, name, row_id) if content is not None][:1]
    return _row(content, f"{paths.data / f'{name}.jsonl'}, row {row_id!r}")


def _part(key: Key) -> Part:
    return cast(Part, key[3]) if len(key) > 3 else "prompt"


def text_of(row: PromptRow, part: Part, language: str) -> str | None:
    """A text of a row; a pair of replies is in the source language, whatever ``language`` says."""
    if part == "prompt":
        return row.prompts.get(language)
    return (
        row.references.get(language) if part == "reference" else {"chosen": row.chosen, "rejected": row.rejected}[part]
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two people, or a loop in a shell, decide at once: each waits until the other has written."""
    if not folder.exists():
        raise MlcError(f"{folder} does not exist: run `dvc pull data.dvc` first")
    with changing(folder):
        yield


def _append(path: Path, *decisions: Decision) -> None:
    """A new file instead of a longer one: what DVC put there may be a link into its cache."""
    before = path.read_bytes() if path.exists() else b""
    lines = [
        decision.model_dump_json(exclude={"part"} if decision.part == "prompt" else None) for decision in decisions
    ]
    if before and not before.endswith(b"\n"):
        before += b"\n"
    with replacing(path) as aside:
        aside.write_bytes(before + b"".join(line.encode() + b"\n" for line in lines))


def _decided(kind: type[D], key: Key, who: str | None, why: str, root: Path, **fields: Any) -> D:
    now = datetime.now(UTC).replace(microsecond=0)
    values = dict(zip(("set", "id", "language", "part"), key, strict=False)) | fields
    try:
        return kind(who=user(root) if who is None else who, why=why, when=now, **values)
    except ValidationError as error:
        raise MlcError(f"{_named(key)}{first_mistake(error)}") from None


_NEXT = "next: `dvc add data` and commit data.dvc, then `mlc validate`"


def release(paths: Paths, key: Key, why: str, who: str | None = None) -> None:
    """Lets a text pass the checks for which it is in quarantine now, as long as its text and its source text stay.

    Raises:
        MlcError: it is not in quarantine, its text changed since, a check of its reasons cannot be released, or who or
            why is not said.
    """
    what = _named(key)
    with _alone(paths.data):
        record = next((r for r in held(paths) if _key(r) == key), None)
        if record is None:
            raise MlcError(f"{what} is not in quarantine: `mlc quarantine list` shows what is")
        if text_of(find(paths, key[0], key[1]), _part(key), key[2]) != record["text"]:
            raise MlcError(f"the text of {what} is another since it was validated: run `mlc validate` first")
        decision = _decided(
            Release,
            key,
            who,
            why,
            paths.root,
            checks=tuple(dict.fromkeys(reason["check"] for reason in record["reasons"])),
            sha256=text_hash(record["text"]),
            source_sha256=text_hash(record["source_text"]),
        )
        path = releases_file(paths)
        same = [
            release
            for release in read_decisions(path, Release)
            if (release.key, release.sha256, release.source_sha256) == (key, decision.sha256, decision.source_sha256)
        ]
        if {check for release in same for check in release.checks}.issuperset(decision.checks):
            print(f"{what} is already released from {', '.join(decision.checks)}; {_NEXT}")
            return
        _append(path, decision)
    print(f"{what} is released from {', '.join(decision.checks)}: {path}\n{_NEXT}")


# What may be right in many texts alike, so that a person need not release them one by one.
KINDS = {"localised_amount": "translators often put amounts into the currency that their readers pay in"}


def release_kind(
    paths: Paths, check: str, why: str, who: str | None = None, name: str | None = None, language: str | None = None
) -> None:
    """Lets all variants pass that fail one check now, in a set or language where these are named.

    There is a line for each in ``releases.jsonl``, which holds for its text and its source text alone; a variant that
    fails other checks as well stays in quarantine for these.

    Raises:
        MlcError: nothing is in quarantine for that check, it may only be released one by one, a text changed since, or
            who or why is not said.
    """
    if check not in KINDS:
        raise MlcError(
            f"{check} is released text by text, with `mlc quarantine release`: it says that a text is wrong; "
            f"as a kind can be released: {', '.join(KINDS)}"
        )
    with _alone(paths.data):
        failing = [
            record
            for record in held(paths)
            if record["part"] == "prompt"
            and any(reason["check"] == check for reason in record["reasons"])
            and name in (None, record["set"])
            and language in (None, record["language"])
        ]
        if not failing:
            raise MlcError(f"nothing is in quarantine for {check}: `mlc quarantine list` shows what is")
        texts: dict[Key, str] = {
            (each, row["id"], tag): text
            for each in {record["set"] for record in failing}
            for _, row in _every(paths, each)
            for tag, text in row.get("prompts", {}).items()
        }
        path = releases_file(paths)
        before = {
            (release.key, release.sha256, release.source_sha256, check)
            for release in read_decisions(path, Release)
            for check in release.checks
        }
        decisions = []
        for record in failing:
            key = _key(record)
            if texts.get(key) != record["text"]:
                raise MlcError(f"the text of {_named(key)} is another since it was validated: run `mlc validate` first")
            sha, source_sha = text_hash(record["text"]), text_hash(record["source_text"])
            if (key, sha, source_sha, check) not in before:
                fields = {"checks": (check,), "sha256": sha, "source_sha256": source_sha}
                decisions.append(_decided(Release, key, who, why, paths.root, **fields))
        _append(path, *decisions)
    others = sum(len({reason["check"] for reason in record["reasons"]}) > 1 for record in failing)
    print(f"{len(decisions)} of {len(failing)} variants are released from {check}: {path}")
    if len(decisions) < len(failing):
        print(f"{len(failing) - len(decisions)} were released before")
    if others:
        print(f"{others} of them fail other checks as well, and stay in quarantine for these")
    print(_NEXT)


def read_text(path: Path) -> str:
    """A text in a file of its own, without the newline that editors end a file with.

    Raises:
        MlcError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except (FileNotFoundError, IsADirectoryError):
        raise MlcError(f"{path} is no file: give one that holds the right text") from None
    except UnicodeDecodeError as error:
        raise MlcError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def fix(paths: Paths, key: Key, text: str, why: str, who: str | None = None) -> None:
    """Replaces a text in the data, or adds a prompt or reference reply where the row lacks the language.

    The file's other lines stay as they are, byte by byte. The text before goes to ``fixes.jsonl`` first, so it is there
    whenever this is interrupted; run again, it completes the fix. A prompt's back-translation goes with it.

    Raises:
        MlcError: the row or its pair does not exist, the text is empty or not UTF-8, or who or why is not said.
    """
    name, row_id, tag, part = key[0], key[1], key[2], _part(key)
    what, path = _named(key), paths.data / f"{name}.jsonl"
    if not text.strip():
        raise MlcError(f"the new text of {what} is empty: to take it out of the row, edit {path}")
    with _alone(paths.data):
        before = find(paths, name, row_id)
        text_before = text_of(before, part, tag)
        if part in ("chosen", "rejected") and text_before is None:
            raise MlcError(f"{name} {visible(row_id)} has no pair of replies: add both to {path}")
        if text_before == text:
            print(f"{what} already has that text")
            return
        decision = _decided(
            Fix,
            key,
            who,
            why,
            paths.root,
            before=text_before,
            after=text,
            provenance=before.provenance.get(tag) if part == "prompt" else None,
            back_translation=before.back_translations.get(tag) if part == "prompt" else None,
        )
        log = [fix for fix in read_decisions(fixes_file(paths), Fix) if fix.key == key]
        if not log or (log[-1].before, log[-1].after) != (decision.before, decision.after):
            _append(fixes_file(paths), decision)
        with replacing(path) as aside, aside.open("wb") as file:
            for line, content in _lines(paths, name, row_id):
                file.write(line if content is None else _with_text(line, content, decision))
    print(f"{what} is fixed, and its text before is kept: {fixes_file(paths)}\n{_NEXT}")


def _with_text(line: bytes, content: dict[str, Any], fix: Fix) -> bytes:
    if fix.part in ("chosen", "rejected"):
        content[fix.part] = fix.after
    elif fix.part == "reference":
        content["references"] = (content.get("references") or {}) | {fix.language: fix.after}
    else:
        _set_prompt(content, fix)
    _row(content, _named(fix.key))
    ending = line[len(line.rstrip(b"\r\n")) :]
    return json.dumps(content, ensure_ascii=False).encode() + ending


def _set_prompt(content: dict[str, Any], fix: Fix) -> None:
    content["prompts"][fix.language] = fix.after
    content["provenance"] = (content.get("provenance") or {}) | {fix.language: {"translator": f"human: {fix.who}"}}
    if fix.back_translation is not None:
        del content["back_translations"][fix.language]
