"""The languages in which the base is already safe, as ``artifacts/trusted_languages/languages.json`` holds them."""

from __future__ import annotations

from typing import Literal, Self

from mlc.files import JsonFile, JsonPart
from mlc.paths import Paths


class Evidence(JsonPart):
    """The safe rate that was measured in a language: value and bound (null where too few prompts are there), prompts,
    and whether the bound clears the gate's threshold."""

    value: float | None
    bound: float | None
    n: int
    passed: bool


class TrustedLanguages(JsonFile):
    """``evidence`` is of every served language where they were measured, and empty where params.yaml names them."""

    trusted: list[str]
    how: Literal["named", "measured"]
    evidence: dict[str, Evidence]

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """What the stage wrote down.

        Raises:
            MlcError: the file is missing or broken.
        """
        return cls.read(paths.trusted_languages, "mlc trusted-languages")
