"""What people decide about texts in quarantine: a release lets one pass as it is, a fix replaces it.

Both are lines of files in the data folder, beside the sets that they are about, and so are versioned with them:
``releases.jsonl``, which ``mlc validate`` obeys, and ``fixes.jsonl``, which keeps every text that was replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypedDict, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field

from mlc.files import JsonPart, read_rows
from mlc.languages.tags import LanguageTag
from mlc.paths import Paths
from mlc.prompts.schema import Provenance

Part = Literal["prompt", "chosen", "rejected", "reference"]  # of a row
Key = tuple[str, str, str] | tuple[str, str, str, str]  # set, id, language, and for a reply which one it is
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# What no person can answer for, and what to do instead.
NEVER_RELEASED = {
    "empty": "a text without letters asks or answers nothing: fix it",
    "identical": "a pair of equal replies teaches nothing: fix one of them",
    "pair": "it passed by itself: release or fix the pair's other reply",
    "control_characters": "what cannot be seen is not what people would be asked to judge: fix the text",
    "characters": "a text of that length is checked for nothing else: shorten it, or raise that setting",
    "leaked_from": "what is trained on must not judge the result: fix the text, or take the row out of one of the sets",
    "row": "it passed by itself: release or fix the text that takes its row along",
    "minimum_languages": "it passed by itself: release or fix the row's other texts, or lower that setting",
}


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: say it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return text


def _may_be_released(check: str) -> str:
    if check in NEVER_RELEASED:
        raise ValueError(f"{check} cannot be released: {NEVER_RELEASED[check]}")
    return check


Said = Annotated[str, AfterValidator(_said)]


class Reason(NamedTuple):
    """Why a variant is in quarantine: the check that it failed, what was found, and what is allowed."""

    check: str
    """The quality column that shows it; ``row`` where the variant itself passed and its row did not, ``pair`` where a
    reply passed and the other of its pair did not."""
    value: float | str | None
    """What the check found: a number, or the other row; None where the message says it all."""
    threshold: float | None
    """The setting that the value broke; None for a check without one."""
    message: str


class ReasonFields(TypedDict):
    """A ``Reason`` as quarantine.jsonl has it."""

    check: str
    value: float | str | None
    threshold: float | None
    message: str


class Quarantined(TypedDict):
    """A line of quarantine.jsonl: a text, its row's prompt in the source language, and why it is held back."""

    set: str
    id: str
    language: str
    part: Part
    """``prompt`` for a variant; otherwise which of its row's replies it is."""
    text: str
    source_text: str | None
    reasons: list[ReasonFields]


def key_of(name: str, row_id: str, language: str, part: str) -> Key:
    return (name, row_id, language) if part == "prompt" else (name, row_id, language, part)


class Decision(JsonPart):
    """Which variant or reply it is about, and who decided it, why and when."""

    set: Literal["alignment", "tuning", "evaluation"]
    id: str = Field(min_length=1)
    language: LanguageTag
    part: Part = Field(default="prompt", description="a reply, where it is about one")
    who: Said
    why: Said
    when: AwareDatetime

    @property
    def key(self) -> Key:
        return key_of(self.set, self.id, self.language, self.part)


class Release(Decision):
    """A text that may be used although checks fail: these checks, this text, as a version of this source text."""

    checks: tuple[Annotated[str, AfterValidator(_may_be_released)], ...] = Field(min_length=1)
    sha256: Sha256 = Field(description="of the text")
    source_sha256: Sha256 | None = Field(description="of the row's text in the source language; null without one")


class Fix(Decision):
    """A text that was replaced, with what belonged to it."""

    before: str | None = Field(description="null where the row did not have the language")
    after: Said
    provenance: Provenance | None = Field(description="of the text before")
    back_translation: str | None = Field(description="of the text before, taken out of the row with it")


D = TypeVar("D", bound=Decision)


def releases_file(paths: Paths) -> Path:
    return paths.data / "releases.jsonl"


def fixes_file(paths: Paths) -> Path:
    return paths.data / "fixes.jsonl"


def read_decisions(path: Path, kind: type[D]) -> list[D]:
    """The lines of ``releases.jsonl`` or ``fixes.jsonl``, none where there is no such file.

    Raises:
        MlcError: a line is not JSON, or not what it should be; with its number and field.
    """
    if not path.exists():
        return []
    return [decision for _, decision in read_rows(path, kind, "does not exist")]


def text_hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


class Releases:
    """The releases, applied variant by variant in any order; remembers which of them held."""

    def __init__(self, releases: Iterable[Release] = ()) -> None:
        self._of: dict[Key, list[Release]] = {}
        for release in releases:
            self._of.setdefault(release.key, []).append(release)
        self._held: set[int] = set()
        self.waived: dict[Key, tuple[str, ...]] = {}
        """Variant -> the failing checks that releases let it pass."""

    def left(self, key: Key, text: str | None, source_text: str | None, reasons: list[Reason]) -> list[Reason]:
        """The reasons for quarantine that no release waives. Call it for every variant, with or without reasons."""
        if text is None or key not in self._of:
            return reasons
        texts = text_hash(text), text_hash(source_text)
        holding = [release for release in self._of[key] if (release.sha256, release.source_sha256) == texts]
        self._held |= {id(release) for release in holding}
        checks = {check for release in holding for check in release.checks}
        if waived := tuple(sorted({reason.check for reason in reasons} & checks)):
            self.waived[key] = waived
        return [reason for reason in reasons if reason.check not in checks]

    def stale(self) -> list[Release]:
        """The releases of texts that are no longer there: changed, or their source text, or gone."""
        return [release for releases in self._of.values() for release in releases if id(release) not in self._held]
