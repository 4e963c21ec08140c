"""Whole JSON files of the pipeline for tests that need one or two fields of them."""

from __future__ import annotations

from typing import Any

HASH = "0" * 64


def manifest(**fields: Any) -> dict[str, Any]:
    """The content of a manifest.json; ``train`` and ``data`` are merged into what is there."""
    parameters = {
        "languages": {"source": "en", "served": ["en"], "transfer": []},
        "train": fields.pop("train", {}),
    }
    data = {"data.dvc": None, "prompts": HASH} | fields.pop("data", {})
    content: dict[str, Any] = {
        "schema_version": 1,
        "files": {},
        "step": 1,
        "base": {"model": "base", "revision": None, "files": {}},
        "data": data,
        "dvc_lock": None,
        "git": {"commit": None, "dirty": False, "changed": []},
        "parameters": parameters,
        "libraries": {},
        "python": "3",
    }
    return content | fields


def result(rule: str, language: str | None, passed: bool, **fields: Any) -> dict[str, Any]:
    """The result of a rule, as a verdict holds it."""
    content = {
        "rule": rule,
        "language": language,
        "n": 100,
        "value": 1.0,
        "bound": 0.95,
        "threshold": 0.9,
        "comparison": "at least",
        "passed": passed,
        "reason": None if passed else "80.0% (bound 70.0%), at least 90% needed",
        "hits": 100,
        "alpha": 0.05,
        "method": "exact (Clopper-Pearson)",
    }
    return content | fields


def verdict(**fields: Any) -> dict[str, Any]:
    """The content of a verdict.json."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "passed": True,
        "manifest": HASH,
        "samples": {"base": HASH, "candidate": HASH},
        "gate": {"confidence": 0.95},
        "selection": None,
        "rules": [],
        "changes": [],
        "failed": [],
        "notes": [],
    }
    return content | fields


def registration(**fields: Any) -> dict[str, Any]:
    """The content of a registration.json."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "registered": False,
        "promoted": False,
        "waiting": False,
        "reason": None,
        "failed": [],
        "model": "m",
        "version": None,
        "manifest": HASH,
        "run_id": "0",
        "comparison": [],
        "champion": None,
        "previous": None,
        "ledger": [],
    }
    return content | fields


def metrics(languages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The content of a metrics.json."""
    return {"schema_version": 1, "languages": languages, "served": {}, "transfer": {}} | fields


def estimate(value: float, n: int = 25) -> dict[str, Any]:
    return {"n": n, "value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1)}
