"""Licences in SPDX's words (https://spdx.org/licenses), by the list that ``packaging`` holds."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

UNKNOWN = "unknown"  # what is shown where nothing names a licence
_NO_NAMES = frozenset({"", "unknown", "other", "none", "null", "noassertion", "n/a"})
_HUB_NAMES = {"odbl": "ODbL-1.0", "odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0"}  # where the hub's word is not SPDX's
_FRONT_MATTER = re.compile(r"\s*---\s*\n(.*?)\n---\s*(?:\n|$)", re.DOTALL)  # of a card
_LONGEST = 100  # of a reference that is made of somebody's text


def spdx(name: str | None) -> str | None:
    """A licence as its owner names it, in SPDX's words; None where it is not known.

    One that SPDX does not list, such as the hub's ``llama3.1``, is a reference: ``LicenseRef-llama3.1``.
    """
    name = (name or "").strip()
    if name.lower() in _NO_NAMES:
        return None
    try:
        return canonicalize_license_expression(_HUB_NAMES.get(name.lower(), name))
    except InvalidLicenseExpression:
        reference = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:_LONGEST]
        return f"LicenseRef-{reference}" if reference else None


def checked(name: str) -> str:
    """A licence that a person names, in SPDX's spelling.

    Raises:
        ValueError: it is no SPDX expression.
    """
    try:
        return canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        instead = f", such as {reference}" if (reference := spdx(name)) else ""
        raise ValueError(
            f"{name!r} is no SPDX identifier (https://spdx.org/licenses), such as Apache-2.0; a licence that SPDX does"
            f" not list is a LicenseRef{instead}"
        ) from None


def checked_identifier(name: str) -> str:
    """The same of a single licence; raises ``ValueError`` for an expression of several, too."""
    if len(identifiers(expression := checked(name))) > 1:
        raise ValueError(f"{name!r} holds several licences: list each by itself")
    return expression


def identifiers(expression: str) -> set[str]:
    """The licences that an expression of ``spdx`` names; one with an exception is a licence of its own.

    Of ``A OR B`` both are: which of them somebody has chosen, the expression does not say.
    """
    return set(re.split(r" AND | OR ", re.sub(r"[()]", "", expression).strip()))


def of_card(folder: Path) -> dict[str, str]:
    """What the card (README.md) of a model's folder says: ``license``, ``license_name``, ``license_link``; empty where
    there is no card, or it says nothing that can be read."""
    try:
        block = _FRONT_MATTER.match((folder / "README.md").read_text(encoding="utf-8-sig"))
        data = YAML(typ="safe", pure=True).load(block[1]) if block else {}
    except (FileNotFoundError, UnicodeDecodeError, YAMLError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: data[key] for key in ("license", "license_name", "license_link") if isinstance(data.get(key), str)}


def of_model(folder: Path) -> str | None:
    """The licence of the model in a folder, as its card names it; None where it names none."""
    terms = of_card(folder)
    return spdx(terms.get("license")) or spdx(terms.get("license_name"))


def of_this_package() -> str | None:
    """The licence of mlc itself, and of what is part of it."""
    return spdx(str(metadata("mlc-pipeline").json.get("license_expression", "")))
