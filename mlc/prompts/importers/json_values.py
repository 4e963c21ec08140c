"""The values of a JSON file, a JSON Lines file or values that merely follow each other: the content tells which it is.

Publishers call lists ``.jsonl`` and lines ``.json``, write one object over many lines, or end with blank ones. Values
are read one by one, so that the first is known without reading the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlc.errors import MlcError
from mlc.text import quoted

_SPACE = re.compile("[ \t\n\r\ufeff]*")  # JSON's, and the byte-order marks of files that were put together


def json_values(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The place and value of every record: of a JSON list its items, else each value of the file.

    Raises:
        MlcError: the text is not JSON from some place on, which is named; the values before it were handed out.
    """
    start = _skip(text, 0)
    return _items(text, start + 1, path) if text[start : start + 1] == "[" else _stream(text, start, path)


def _items(text: str, position: int, path: Path) -> Iterator[tuple[str, Any]]:
    number, position = 0, _skip(text, position)
    more = text[position : position + 1] != "]"
    while more:
        number += 1
        value, position = _value(text, position, path)
        yield f"{path}, record {number}", value
        position = _skip(text, position)
        if position == len(text):
            raise _error(path, text, position, "the list is not closed: the file was cut off")
        if text[position] not in ",]":
            raise _error(path, text, position, f"not JSON (a comma or ] has to follow record {number})")
        more = text[position] == ","
        position = _skip(text, position + 1) if more else position
    if (rest := _skip(text, position + 1)) < len(text):
        raise _error(path, text, rest, "something follows the list: a file holds one list, or one object per line")


def _stream(text: str, position: int, path: Path) -> Iterator[tuple[str, Any]]:
    line, end = 1, 0
    while position < len(text):
        same_line = end > 0 and "\n" not in text[end:position]
        line += text.count("\n", end, position)
        if text[position] == "," and end:
            raise _error(path, text, position, "a comma between objects: take it out, or put all in [ ]")
        value, after = _value(text, position, path)
        yield f"{path}, line {line}{f', column {_column(text, position)}' if same_line else ''}", value
        line += text.count("\n", position, after)
        end, position = after, _skip(text, after)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _column(text: str, position: int) -> int:
    return position - text.rfind("\n", 0, position)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _error(path: Path, text: str, position: int, reason: str) -> MlcError:
    return MlcError(f"{path}, line {_line(text, position)}, column {_column(text, position)}: {reason}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {quoted(twice)} stands twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice)


def _value(text: str, position: int, path: Path) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        begins = _line(text, position)
        more = f"; the record begins in line {begins}" if begins != error.lineno else ""
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            more += "; the file ends there: was it cut off?"
        raise MlcError(f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}){more}") from None
    except (ValueError, RecursionError) as error:
        raise MlcError(f"{path}, the record that begins in line {_line(text, position)}: {error}") from None
