"""What has to hold after every fault, by looking at the registry, the files and the runs; and the table of outcomes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from mlc.files import sha256, sha256_json

State = dict[str, Any]
ALIASES = ("champion", "previous", "candidate")


def state(root: Path) -> State:
    """All that the invariants are about. It is asked in a child, for it opens the store."""
    from mlc import tracking
    from mlc.paths import Paths
    from mlc.registry.model import RegisteredModel
    from mlc.registry.verify import differences, fetched
    from mlc.settings import load_settings

    paths = Paths(root)
    model = RegisteredModel(paths, load_settings(paths.params).register_.model_name)
    versions = {str(version.version): version.tags for version in model.versions()}
    wrong = {}
    for version in versions:
        with fetched(model, version) as folder:
            wrong[version] = differences(model, version, folder)
    client = tracking.client(paths)
    runs = client.search_runs([tracking.experiment(paths)], "attributes.status = 'RUNNING'")
    return {
        "aliases": model.aliases(),
        "ledger": model.ledger(),
        "keys": list(model._entries()),
        "faults": model.faults(),
        "manifests": {version: tags.get("manifest") for version, tags in versions.items()},
        "wrong": wrong,
        "open": [run.info.run_id for run in runs],
    }


def unsafe(before: State, now: State, good: set[str]) -> list[str]:
    """What may not be at any moment, also while nothing has repaired anything yet."""
    violations = []
    for alias, version in now["aliases"].items():
        if version not in now["manifests"]:
            violations.append(f"{alias} is version {version}, which does not exist")
        elif now["manifests"][version] not in good:
            violations.append(f"{alias} is version {version}, whose model never passed the gate")
        elif now["wrong"][version]:
            violations.append(f"{alias} is version {version}, which does not verify: {now['wrong'][version]}")
    if "champion" in before["aliases"] and "champion" not in now["aliases"]:
        violations.append("the champion is lost")
    if (
        now["ledger"][: len(before["ledger"])] != before["ledger"]
        or now["keys"][: len(before["keys"])] != before["keys"]
    ):
        violations.append("entries of the ledger were changed, reordered or lost")
    return violations


def unsettled(now: State) -> list[str]:
    """What has to be in order after the next run."""
    from mlc.registry.ledger import champions

    violations = list(now["faults"])
    aliases = now["aliases"]
    last = (champions(now["ledger"]) or [None])[-1]
    if last != aliases.get("champion"):
        violations.append(f"the ledger's champion is {last}, the alias {aliases.get('champion')}")
    if "champion" in aliases and aliases["champion"] == aliases.get("previous"):
        violations.append("champion and previous are the same version")
    twice = [digest for digest, count in Counter(now["manifests"].values()).items() if count > 1]
    if twice:
        violations.append(f"{len(twice)} models have two versions each")
    if now["open"]:
        violations.append(f"{len(now['open'])} MLflow runs are still RUNNING")
    return violations


def debris(root: Path) -> list[str]:
    """What a killed command has left beside the project's files, but for the empty folder of a finished write."""
    patterns = ("**/.*.partial", "artifacts/.register-*")
    left = (path for pattern in patterns for path in root.glob(pattern))
    return sorted(str(path.relative_to(root)) for path in left if {p.name for p in path.glob("*")} != {".owner"})


def outputs(root: Path, *paths: str) -> dict[str, str]:
    """Path -> hash of a stage's files; how long something took is not compared."""
    hashes = {}
    for path in map(root.joinpath, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():  # a folder, or what a command has not made
                continue
            if file.suffix == ".jsonl":
                text = re.sub(r'"seconds": [^,}]+', '"seconds": 0', file.read_text())
                hashes[str(file.relative_to(root))] = sha256_json(text)
            else:
                hashes[str(file.relative_to(root))] = sha256(file)
    return hashes


class Row(NamedTuple):
    fault: str
    where: str
    outcome: str


class Table:
    """How often each fault had each outcome, and every violation."""

    def __init__(self) -> None:
        self.counts: Counter[Row] = Counter()
        self.violations: list[str] = []

    def add(self, fault: str, where: str, outcome: str, violations: list[str]) -> None:
        self.counts[Row(fault, where, "VIOLATION" if violations else outcome)] += 1
        self.violations += [f"{fault}, {where}: {violation}" for violation in violations]
        print(f"{fault}, {where}: {violations or outcome}", flush=True)

    def lines(self) -> list[str]:
        rows = [f"| {row.fault} | {row.where} | {row.outcome} | {count} |" for row, count in self.counts.items()]
        return ["| fault | where | outcome | times |", "|---|---|---|--:|", *rows]
