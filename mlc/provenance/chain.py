"""The chain of records from the data to the verdict: does each stage's record fit the others, and the project as it is?

A stage that reads what another has written has its hash among its inputs. Where all inputs and outputs are those of the
files that are there now, the records are therefore one chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlc.errors import MlcError
from mlc.files import JsonFile
from mlc.git import is_commit
from mlc.paths import Paths
from mlc.provenance import code
from mlc.provenance.record import RECORDED, StageRecord, hashes
from mlc.provenance.stages import Stage, read_stages, setting

# What makes the model: it has to come from a commit, which need not be the present one. What decides about the model
# has to be of the present code.
MAKES = ("base", "trusted_languages", "train")
NAMED = 3  # problems that an error names


class Provenance(JsonFile):
    """Where a version comes from: ``stages``, the record of every stage that decided about it; ``commit`` and ``data``,
    what was checked out when it was registered, and the hash of the prompt sets then, which the evaluation, the gate
    and the settings are those of. The training's own commit is in its record and in the manifest."""

    commit: str
    data: str | None
    stages: dict[str, StageRecord]


def read_records(paths: Paths) -> dict[str, StageRecord]:
    """The records of all stages that decide about a model.

    Raises:
        MlcError: one is missing or broken.
    """
    return {name: StageRecord.read(paths.provenance(name), f"dvc repro {name}") for name in RECORDED}


def check_tree(paths: Paths) -> str:
    """The project as it is now is that of a commit, with its data as data.dvc says; returns the commit.

    Raises:
        MlcError: it is not; the files are named.
    """
    state = code.state(paths.root)
    if state.commit is None:
        raise MlcError(f"{paths.root.resolve()} is at no git commit: commit the project, then run the same again")
    if changed := [*state.changed, *code.data_changes(paths.root)]:
        raise MlcError(
            f"not committed: {_some(changed)}. A model is registered for what is committed alone: commit or restore"
            " them, then run `mlc run` again"
        )
    return state.commit


def check_records(paths: Paths) -> dict[str, StageRecord]:
    """The records, after a walk through all of them.

    Raises:
        MlcError: a record is missing; a stage ran with what is in no commit, or with other code or settings than those
            that are there now; or a file is not the one that it read or wrote.
    """
    stages, params = read_stages(paths.root)
    records = read_records(paths)
    if missing := [name for name in RECORDED if name not in stages]:
        raise MlcError(f"dvc.yaml has no stage {missing[0]}: bring back the committed one")
    package = code.package_hash()
    parts = code.part_hashes({part for stage in RECORDED for part in stages[stage].code})
    named = {name for stage in RECORDED for name in (*stages[stage].inputs, *stages[stage].results)}
    present = hashes(paths.root, sorted(named))
    for name in RECORDED:
        stage, record = stages[name], records[name]
        problems = [*_origin(record, package, paths), *_settings(stage, record, params), *_code(stage, record, parts)]
        for kind, then, names in (("read", record.inputs, stage.inputs), ("wrote", record.outputs, stage.results)):
            problems += [f"{file} is not what {name} {kind}" for file in _other(then, {n: present[n] for n in names})]
        if problems:
            raise MlcError(f"{_some(problems)}: run `{stage.command}` again, and what comes after it")
    return records


def _other(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The names whose values differ, and those that only one of them has."""
    both = then.keys() & now.keys()
    return sorted((then.keys() ^ now.keys()) | {name for name in both if then[name] != now[name]})


def _some(problems: list[str]) -> str:
    more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return ", ".join(problems[:NAMED]) + more


def _origin(record: StageRecord, package: str, paths: Paths) -> Iterator[str]:
    """Is what ran that of a commit?"""
    if record.changed:
        yield f"{_some(record.changed)} changed while {record.stage} ran"
    # What was not committed then, and has the very same code now that all is committed, is as good: its settings and
    # inputs are compared, too. A training is said to come from its own commit.
    if record.package == package and record.stage != "train":
        return
    if record.commit is None:
        yield f"{record.stage} ran outside a git commit"
    elif record.uncommitted:
        yield f"{record.stage} ran with what is not committed ({_some(record.uncommitted)})"
    elif not is_commit(paths.root, record.commit):
        yield f"{record.stage} ran at commit {record.commit[:12]}, which this repository does not have"


def _settings(stage: Stage, record: StageRecord, params: object) -> Iterator[str]:
    now = {name: setting(params, name) for name in stage.settings}
    if other := _other(record.settings, now):
        yield f"{stage.name} ran with other settings ({_some(other)})"


def _code(stage: Stage, record: StageRecord, parts: Mapping[str, str]) -> Iterator[str]:
    now = {name: parts[name] for name in stage.code}
    if stage.name not in MAKES and (other := _other(record.code, now)):
        yield f"{stage.name} ran with other code ({_some(other)})"
