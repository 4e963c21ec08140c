"""The audit job: is the champion still fit to serve, on the prompts of now? The work is `mlc audit`'s.

The project is the working directory.
"""

from __future__ import annotations

from typing import Any, TypedDict

from dvc.exceptions import DvcException
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import Completed, Failed

from flows import stages
from flows.notify import WORTH_TELLING, Outcome, ended
from flows.retrain import retrain
from flows.stages import run_command, run_stages, working
from mlc.errors import MlcError
from mlc.gates.rules import RuleResult
from mlc.gates.verdict import AuditVerdict
from mlc.paths import Paths
from mlc.settings import Settings, load_settings
from mlc.text import title, without_secrets

REFUSED = 3  # mlc audit's exit code where the champion does not pass


class Row(TypedDict):
    """A rule's result, as the table on the run's page shows it."""

    rule: str
    language: str
    n: int
    value: str
    bound: str
    threshold: str
    passed: bool


def _needed(settings: Settings) -> list[str]:
    """The stages whose outputs an audit reads, as far as they do not depend on a candidate."""
    return ["validate", "base", "evaluate_base", *(["calibrate"] if settings.gate.judge is not None else [])]


def _judge(settings: Settings, force: bool, hours: dict[str, float]) -> State[Any] | None:
    """Brings prompts and base up to date and judges the champion; the state of what failed, if so."""
    needed = _needed(settings)
    failed = run_stages(needed, {stage: hours[stage] for stage in needed if stage in hours})
    if failed is not None:
        return failed
    arguments = ["audit", *(["--force"] if force else [])]
    command = run_command.with_options(name="audit", task_run_name="audit")
    state: State[Any] = command(*arguments, allowed=(0, REFUSED), hours=hours.get("audit"), return_state=True)
    return None if state.is_completed() else state


def _show(verdict: AuditVerdict) -> tuple[str, str]:
    """The name of the flow's state and the verdict in words, which the run's page shows too."""
    version, passed = verdict.version, verdict.passed
    outcome = "still passes" if passed else f"does not pass any more: {len(verdict.failed)} rules failed"
    message = f"Champion version {version} of {verdict.model} {outcome}."
    if verdict.action:
        message += f" {verdict.action[0].upper()}{verdict.action[1:]}."
    failed = "".join(f"\n- {sentence}" for sentence in verdict.failed)
    name = "Passed" if passed else "BelowGate"
    create_markdown_artifact(f"# {name}\n{message}{failed}", key="audit")
    rows = [dict(_row(result)) for result in verdict.rules]
    create_table_artifact(table=rows, key="audit-rules", description=f"Version {version}, on {verdict.when}")
    return name, message + failed


def _row(result: RuleResult) -> Row:
    return {
        "rule": title(result.rule),
        "language": result.where,
        "n": result.n,
        "value": result.value_text,
        "bound": result.bound_text,
        "threshold": result.limit,
        "passed": result.passed,
    }


@flow(on_completion=[ended], on_failure=[ended], on_crashed=[ended], on_cancellation=[ended])
def audit(
    force: bool = False,
    hours: dict[str, float] | None = None,
    notify: str | None = None,
    notify_on: tuple[Outcome, ...] = WORTH_TELLING,
) -> State[Any]:
    """Judges the champion again. BelowGate where it does not pass; then does what ``audit.on_failure`` says.

    Args:
        force: also where nothing has changed since the last audit.
        hours: stage, or ``audit`` -> after how many hours it is ended and the run fails.
        notify, notify_on: see ``retrain``, which a failing audit starts with the same.
    """
    paths, limits = Paths(), hours or {}
    try:
        settings = load_settings(paths.params)
        with working():
            stages.end_abandoned_runs()
            failed = _judge(settings, force, limits)
        if failed is not None:
            return Failed(name=failed.name, message=failed.message)
        name, message = _show(AuditVerdict.of(paths))
    except (DvcException, MlcError) as error:
        return Failed(message=without_secrets(str(error)))
    if name == "BelowGate" and settings.audit.on_failure == "retrain":
        again = {stage: limit for stage, limit in limits.items() if stage != "audit"}
        state = retrain(hours=again, notify=notify, notify_on=notify_on, return_state=True)
        message += f"\nRetrained: {state.name}: {state.message}"
    return Completed(name=name, message=message)
