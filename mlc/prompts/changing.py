"""The lock of all that changes prompt sets: what is read while it is held is still so when it is written back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc.files import locked, remove_abandoned


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Holds the prompt sets and decisions of a folder against other commands, which wait and say so.

    What a killed command left there is removed: where it was killed last of all, nobody writes that file again.
    Read inside, and do nothing there that takes long. A project has one lock for all of its folders; a folder that is
    in none has a file of its own, named as what DVC leaves out.
    """
    whole = folder.resolve()  # by whatever path, or link, somebody else names it
    marks = ("params.yaml", ".cache/mlc")  # a project that is being set up has only the second
    project = next((p for p in (whole, *whole.parents) if any((p / mark).exists() for mark in marks)), None)
    lock = project / ".cache" / "mlc" / "prompts.lock" if project else whole / ".lock.partial"
    with locked(lock, f"prompts: another mlc is changing prompt sets in {project or whole}; waiting for it"):
        remove_abandoned(whole)
        yield
