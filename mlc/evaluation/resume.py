"""What a long pass has done so far, kept through any kill of the process: a line per item, appended as it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from mlc.progress import progress_bar


def finished(path: Path, identity: str) -> dict[int, Any]:
    """Index -> value of what an earlier run did, or nothing if it was another pass; the file is then ready to go on.

    A line that the kill cut off is dropped.
    """
    whole = 0
    items: dict[int, Any] = {}
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    head = _line({"identity": identity})
    if content.startswith(head):
        whole = len(head)
        for line in content[whole:].splitlines(keepends=True):
            try:
                index, value = json.loads(line)
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            items[index] = value
            whole += len(line)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if whole else "wb") as file:
        file.truncate(whole)
        if not whole:
            file.write(head)
    return items


def run(
    path: Path,
    identity: str,
    total: int,
    what: str,
    rest: Callable[[Collection[int]], Iterable[Sequence[tuple[int, Any]]]],
) -> dict[int, Any]:
    """Index -> JSON value of all ``total`` items of a pass, going on after an earlier run that was killed.

    Args:
        path: the pass's file. identity: of all that decides the values; another one starts anew.
        what: heads the progress bar. rest: makes the items that are not among the given indices, or as many as it can,
            batch by batch. The bar counts whole batches: the first item of one would seem to take the time of all.
    """
    items = finished(path, identity)
    if items:
        print(f"{what}: going on after {len(items)} of {total} prompts")
    if len(items) < total:
        with (
            path.open("ab", buffering=0) as file,  # each line is with the operating system at once
            progress_bar(what, total, before=len(items)) as progress,
        ):
            for batch in rest(frozenset(items)):
                for index, value in batch:
                    file.write(_line([index, value]))
                    items[index] = value
                progress.update(len(batch))
    return items


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
