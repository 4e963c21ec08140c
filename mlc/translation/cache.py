"""What was ever translated, so that nothing is translated twice: not after a kill, nor for another prompt set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from mlc.cache import AnswerCache
from mlc.files import sha256_json
from mlc.translation import Request, Translator


class Cache:
    """Finished translations, by the hash of text, languages, translator and version."""

    def __init__(self, path: Path, translator: Translator) -> None:
        self._who = (translator.name, translator.version)
        about = ("text", "source", "target", "translator", "version")
        self._answers = AnswerCache(path, "translation", about)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._answers.__exit__(None, None, None)

    def _key(self, request: Request) -> str:
        return sha256_json([*request, *self._who])

    def get(self, requests: Iterable[Request]) -> dict[Request, str]:
        """The translations of those requests that were translated before."""
        keys = {request: self._key(request) for request in requests}
        known = self._answers.get(keys.values())
        return {request: known[key] for request, key in keys.items() if key in known}

    def put(self, request: Request, translation: str) -> None:
        """Keeps a translation, at once; the first one of a request stays.

        Raises:
            MlcError: it cannot be written.
            OSError: the disk is full; what the cache holds is safe.
        """
        self._answers.put(self._key(request), translation, (*request, *self._who))
