"""The diff of prompt sets: what changed between a git revision and the files as they are now."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlc import git
from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.text import quoted, quoted_name, quoted_pair

BY_LANGUAGE = ("prompts", "references", "back_translations", "provenance")
SCALAR = tuple(name for name in PromptRow.model_fields if name not in {"id", *BY_LANGUAGE})


@dataclass(frozen=True)
class Change:
    """One value of a row that differs; None stands for "not there"."""

    id: str
    field: str
    language: str | None
    old: str | None
    new: str | None

    def lines(self) -> list[str]:
        """The change as a person reads it, with nothing in it that acts on a terminal."""
        where = self.field if self.language is None else f"{self.field}, {self.language}"
        if self.old is None or self.new is None:
            sign, text = ("-", self.old) if self.new is None else ("+", self.new)
            return [f"  {where}", f"    {sign} {quoted(text or '')}"]
        old, new = quoted_pair(self.old, self.new)
        return [f"  {where}", f"    - {old}", f"    + {new}"]


def changes(old: PromptRow, new: PromptRow) -> list[Change]:
    """Every value that differs between two versions of a row: prompts first, then the other fields."""
    differences = []
    for name in BY_LANGUAGE:
        before, after = ({tag: _text(value) for tag, value in getattr(row, name).items()} for row in (old, new))
        for tag in [*before, *(tag for tag in after if tag not in before)]:
            if before.get(tag) != after.get(tag):
                differences.append(Change(new.id, name, tag, before.get(tag), after.get(tag)))
    for name in SCALAR:
        a, b = (_text(getattr(row, name)) for row in (old, new))
        if a != b:
            differences.append(Change(new.id, name, None, a, b))
    return differences


def _text(value: str | BaseModel | None) -> str | None:
    return value.model_dump_json(exclude_defaults=True) if isinstance(value, BaseModel) else value


@dataclass(frozen=True)
class SetDiff:
    """The difference between two versions of one prompt set."""

    before: dict[str, PromptRow]
    after: dict[str, PromptRow]

    @property
    def added(self) -> list[str]:
        return [id_ for id_ in self.after if id_ not in self.before]

    @property
    def removed(self) -> list[str]:
        return [id_ for id_ in self.before if id_ not in self.after]

    def changed(self) -> dict[str, list[Change]]:
        """Id -> what differs, of the rows that are in both and not equal."""
        both = {id_: changes(self.before[id_], row) for id_, row in self.after.items() if id_ in self.before}
        return {id_: differences for id_, differences in both.items() if differences}

    def per_language(self) -> dict[str, Counter[str]]:
        """Language -> rows that have it before and after, and texts added, removed and changed."""
        counts: dict[str, Counter[str]] = {}
        for id_ in self.before | self.after:
            old, new = (rows[id_].prompts if id_ in rows else {} for rows in (self.before, self.after))
            for tag in old | new:
                count = counts.setdefault(tag, Counter())
                count["before"] += tag in old
                count["after"] += tag in new
                count["added"] += tag not in old
                count["removed"] += tag not in new
                count["changed"] += tag in old and tag in new and old[tag] != new[tag]
        return dict(sorted(counts.items()))

    def rows(self, changed: Mapping[str, list[Change]]) -> dict[str, int]:
        sizes = {"before": len(self.before), "after": len(self.after)}
        return sizes | {"added": len(self.added), "removed": len(self.removed), "changed": len(changed)}


Sets = Mapping[str, Sequence[PromptRow]]


def compare(before: Sets, after: Sets) -> dict[str, SetDiff]:
    """Name -> difference, of every set that is in either."""
    return {
        name: SetDiff({row.id: row for row in before.get(name, ())}, {row.id: row for row in after.get(name, ())})
        for name in sorted({*before, *after})
    }


def sets_now(paths: Paths) -> dict[str, list[PromptRow]]:
    """The prompt sets as they are, committed or not."""
    files = sorted(paths.data.glob("*.jsonl"))
    if not files:
        raise MlcError(f"{paths.data} holds no prompt sets (*.jsonl): run `dvc pull data.dvc` first")
    return {path.stem: read_prompts(path) for path in files}


def sets_at(paths: Paths, revision: str) -> dict[str, list[PromptRow]]:
    """The prompt sets that data.dvc names at a git revision, from DVC's cache or else its remote.

    Raises:
        MlcError: there is no such revision, its data can be had from nowhere, or a set breaks the schema.
    """
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    shown_revision, sets = quoted_name(revision), {}
    try:
        project, prefix = git.files_at(paths.root, revision)
        data = f"{prefix}{paths.data.name}"
        files = sorted(project.glob(f"{data}/*.jsonl")) if project.isdir(data) else []
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                copy = Path(folder) / Path(file).name
                project.get_file(file, str(copy))
                try:
                    sets[copy.stem] = read_prompts(copy)
                except MlcError as error:
                    raise MlcError(str(error).replace(str(copy), f"{file} at {shown_revision}")) from None
    except (FileNotFoundError, DataIndexDirError):
        raise MlcError(
            f"the data of {shown_revision} is neither in DVC's cache nor to be had from its remote: where the remote "
            "can be reached, run `dvc fetch --all-commits data.dvc`"
        ) from None
    except DvcException as error:
        raise MlcError(f"the data of {shown_revision} cannot be read: {quoted_name(str(error))}") from None
    return sets


def report(diffs: Mapping[str, SetDiff], texts: bool) -> dict[str, Any]:
    """The difference as JSON. With ``texts``, added and removed rows bring their prompts, changed values both texts."""

    def listed(ids: list[str], rows: dict[str, PromptRow]) -> Any:
        return {id_: rows[id_].prompts for id_ in ids} if texts else ids

    result: dict[str, Any] = {}
    for name, diff in diffs.items():
        changed = diff.changed()
        shown_changes = {
            id_: [
                {"field": c.field, "language": c.language} | ({"old": c.old, "new": c.new} if texts else {})
                for c in differences
            ]
            for id_, differences in changed.items()
        }
        result[name] = {
            "rows": diff.rows(changed),
            "languages": {tag: dict(count) for tag, count in diff.per_language().items()},
            "ids": {
                "added": listed(diff.added, diff.after),
                "removed": listed(diff.removed, diff.before),
                "changed": shown_changes,
            },
        }
    return result


COLUMNS = ("before", "after", "added", "removed", "changed")


def table(diffs: Mapping[str, SetDiff]) -> list[str]:
    """A line per set and language; the line "rows" counts whole rows, whatever part of them changed."""
    lines: list[tuple[str, ...]] = [("set", "language", *COLUMNS)]
    for name, diff in diffs.items():
        lines.append((quoted_name(name), "rows", *(str(n) for n in diff.rows(diff.changed()).values())))
        for tag, count in diff.per_language().items():
            lines.append(("", tag, *(str(count[column]) for column in COLUMNS)))
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def details(diffs: Mapping[str, SetDiff]) -> list[str]:
    """Every row that was added (+), removed (-) or changed (~), with old and new texts."""
    lines = []
    for name, diff in diffs.items():
        for sign, ids, rows in (("+", diff.added, diff.after), ("-", diff.removed, diff.before)):
            for id_ in ids:
                lines += ["", f"{sign} {quoted_name(name)} {quoted_name(id_)}"]
                lines += [f"  {tag}  {quoted(text)}" for tag, text in rows[id_].prompts.items()]
        for id_, differences in diff.changed().items():
            lines += [
                "",
                f"~ {quoted_name(name)} {quoted_name(id_)}",
                *(line for c in differences for line in c.lines()),
            ]
    return lines


def run(paths: Paths, revision: str, as_json: bool, texts: bool) -> None:
    """Prints what changed in the prompt sets since a git revision."""
    diffs = compare(sets_at(paths, revision), sets_now(paths))
    if as_json:
        # ASCII only: nothing in a text acts on a terminal, and any JSON reader gets it back.
        print(json.dumps({"revision": revision, "sets": report(diffs, texts)}, indent=2).replace("\x7f", "\\u007f"))
        return
    if not any(diff.added or diff.removed or diff.changed() for diff in diffs.values()):
        print(f"the prompt sets are those of {quoted_name(revision)}")
        return
    print("\n".join(table(diffs)))
    if texts:
        print("\n".join(details(diffs)))
    else:
        print("\nids and texts: --texts")
