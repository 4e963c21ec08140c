"""The replies of prompt rows, ``chosen``, ``rejected`` and ``references``: what is wrong with each, by itself.

A reply has no source text to be compared with, so it is asked less than a translation: whether it says anything, can be
read, is in its language, came to its end, and is there once. ``reply_columns`` looks at a chunk of rows with their
texts, ``set_columns`` at all replies together, without texts. A null means "not checked", and never counts as passed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any
from unicodedata import category, normalize

import numpy as np
import pandas as pd
import regex

from mlc.prompts.schema import PromptRow
from mlc.quality import duplicates, text_checks
from mlc.quality.checks import other_language
from mlc.quality.decisions import Key, Part

_COLUMNS = ("set", "id", "part", "language", "text", "source_text")
_CATEGORIES = ("set", "part", "language", "broken_off")
_SAYS_SOMETHING = regex.compile(r"[\p{L}\p{N}\p{S}]")  # a number or an emoji can answer
_CODE = regex.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", regex.DOTALL)
_IDENTIFIED = 2000  # characters; more make identification no surer
_FENCE = regex.compile(r"^\s*```", regex.MULTILINE)
# Lines that end without punctuation by custom: items, headings, rows of tables, and links.
_ITEM = regex.compile(r"\s*(?:[-*+•–—#|>]|\(?[\p{N}\p{L}]{1,3}[.)])\s?\S")
_LINK = regex.compile(r"://|@|^www\.")
_CLOSING = "\"'*_`~"  # beside closing brackets and quotation marks
_GOES_ON = regex.compile(r"[,،、;؛:\p{Ps}\p{Pi}]\Z|\s[-–—]\Z|\p{L}-\Z")
_ENDS = regex.compile(r"[\p{Po}\p{S}\p{Pe}\p{Pf}\p{Pd}]\Z")
# The end of a sentence within a line, and no abbreviation.
_SENTENCE_END = regex.compile(
    r"[.!?](?<=\p{L}{2}[.!?])(?<!\b(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|etc|No|Inc|Ltd|Co)[.!?])\s+(?=\p{Lu})"
    r"|[。！？।॥۔؟።](?<=[\p{L}\p{M}].)"
)
_PLAIN_CUSTOM, _MIDWAY_CUSTOM = 0.9, 0.5  # share of replies that end, from which on one that does not is cut off
_FEWEST = 10  # replies; fewer have no custom


def reply_lines(
    name: str, rows: Iterable[PromptRow], tags: Collection[str], source: str
) -> Iterator[tuple[PromptRow, tuple[str, str, Part, str, str, str | None]]]:
    """Every reply of a set's rows in the languages of ``tags``, as ``set, id, part, language, text, source_text``."""
    for row in rows:
        question = row.prompts.get(source)
        if row.chosen is not None and row.rejected is not None:
            yield row, (name, row.id, "chosen", source, row.chosen, question)
            yield row, (name, row.id, "rejected", source, row.rejected, question)
        for tag, reply in row.references.items():
            if tag in tags:
                yield row, (name, row.id, "reference", tag, reply, question)


def reply_columns(
    name: str, rows: Iterable[PromptRow], tags: Collection[str], source: str, keep: Collection[Key]
) -> pd.DataFrame:
    """One line per reply of a chunk: what its text shows by itself. Texts are kept for those of ``keep`` alone."""
    of_rows = list(reply_lines(name, rows, tags, source))
    frame = pd.DataFrame([line for _, line in of_rows], columns=list(_COLUMNS), dtype=object)
    found: dict[str, list[Any]] = {check: [None] * len(frame) for check in ("control_characters", "other_language")}
    for tag, at in frame.groupby("language", sort=False).indices.items():
        texts = [of_rows[n][1][4] for n in at]
        prose = [_CODE.sub(" ", text)[:_IDENTIFIED] for text in texts]
        for check, values in (
            ("control_characters", text_checks.control_characters(texts, str(tag))),
            ("other_language", other_language(prose, str(tag))),
        ):
            for n, value in zip(at, values, strict=True):
                found[check][n] = value
    replies = [line[4] for _, line in of_rows]
    found["empty"] = [_SAYS_SOMETHING.search(text) is None for text in replies]
    found["mojibake"] = list(text_checks.mojibake(replies))
    found["identical"] = [_identical(row, line[2]) for row, line in of_rows]
    found["broken_off"] = [broken_off(text) for text in replies]
    for column in ("text", "source_text"):
        kept = [
            text if (line[0], line[1], line[3], line[2]) in keep else None
            for (_, line), text in zip(of_rows, frame[column], strict=True)
        ]
        frame[column] = pd.Series(kept, frame.index, dtype=object)
    series = {column: pd.Series(values, frame.index, dtype=object) for column, values in found.items()}
    asked = [row.prompts.get(line[3]) for row, line in of_rows]
    return frame.assign(**series, hash=_hashes(asked, replies))


def _folded(text: str) -> str:
    return " ".join(normalize("NFC", text).casefold().split())


def _identical(row: PromptRow, part: Part) -> bool | None:
    if part == "reference" or row.chosen is None or row.rejected is None:
        return None
    return _folded(row.chosen) == _folded(row.rejected)


def _hashes(prompts: Sequence[str | None], replies: Sequence[str]) -> Any:
    """64-bit hashes of prompts with their replies, but for case and spacing; 0 where one of them is missing."""
    digests = [
        blake2b(f"{_folded(prompt)}\0{_folded(reply)}".encode(), digest_size=8).digest()
        if prompt and reply.strip()
        else bytes(8)
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def broken_off(text: str) -> str | None:
    """``no`` where a reply ended, ``midway`` amid a sentence, ``plain`` without punctuation; null where it is unclear.

    ``midway`` shows by the text alone: a comma, an open bracket or block of code, or a last line whose sentences end
    but for the last. ``plain`` says something only beside the set's custom (``cut_off``). Items of lists, headings,
    links and short last lines (a signature) may end in any way. Fails on: a text that was cut where a sentence ended.
    """
    if len(_FENCE.findall(text)) % 2:
        return "midway"
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
    bare = _without_closing(last)
    if not regex.search(r"\p{L}", last):
        return None
    if not bare or (bare != last and _ENDS.search(last)) or last.startswith("```"):
        return "no"
    if _GOES_ON.search(bare):
        return "midway"
    if _ENDS.search(bare):
        return "no"
    if _LINK.search(bare.split()[-1]):
        return None
    if _SENTENCE_END.search(bare):
        return "midway"
    several = len(text.strip().splitlines()) > 1
    return None if _ITEM.match(last) or (several and len(bare.split()) < 4) else "plain"


def _without_closing(line: str) -> str:
    end = len(line)
    while end and (line[end - 1] in _CLOSING or line[end - 1].isspace() or category(line[end - 1]) in ("Pe", "Pf")):
        end -= 1
    return line[:end]


def cut_off(frame: pd.DataFrame) -> pd.Series:
    """Whether the reply broke off, where the set's replies of its kind and language do end.

    A reply that stops amid a sentence counts where half of the others end, one that only lacks its punctuation where
    nine in ten do. Null where there is no such custom (Thai, casual chats), and for fewer than 10 replies.
    """
    cut = pd.Series(np.full(len(frame), None), frame.index, dtype=object)
    for _, lines in frame.groupby(["set", "part", "language"], sort=False, observed=True):
        judged = lines["broken_off"].dropna().astype(str)
        if len(judged) < _FEWEST:
            continue
        ended = float((judged == "no").mean())
        signs = ["midway"] * (ended >= _MIDWAY_CUSTOM) + ["plain"] * (ended >= _PLAIN_CUSTOM)
        known = judged[judged.isin(["no", *signs])]
        cut[known.index] = (known != "no").astype(object)
    return cut


def duplicate_of(frame: pd.DataFrame) -> pd.Series:
    """Id of an earlier row of the set with the same prompt and the same reply, null where there is none.

    Where one row chooses a reply that the other rejects, both have the other's id: one of them teaches the contrary.
    """
    kind = frame["part"].astype(str).replace({"chosen": "pair", "rejected": "pair"})
    where = frame["language"].astype(str).str.cat(kind, sep=" ")
    other = duplicates.duplicate_of(frame.assign(language=where, intent=frame["part"].astype(str)))
    return other.where(other.isna() | (other != frame["id"]), None)  # in one row it is ``identical``


def set_columns(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The replies of all chunks of all sets, with the columns that need all of them."""
    frame = pd.concat(parts, ignore_index=True)
    for column in _CATEGORIES:
        frame[column] = frame[column].astype("category")
    return frame.assign(cut_off=cut_off(frame), duplicate_of=duplicate_of(frame))
