"""The part of `retrain` that wants a GPU as a job of its own, for a pool of machines that have one.

It works in the folder of `retrain`, which afterwards finds these stages up to date, and gates and registers. The
project is the working directory.
"""

from __future__ import annotations

from typing import Any

from dvc.exceptions import DvcException
from prefect import State, flow
from prefect.states import Completed, Failed

from flows import stages
from flows.notify import WORTH_TELLING, Outcome, ended
from flows.stages import run_stages, working
from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.settings import load_settings
from mlc.text import without_secrets


@flow(on_completion=[ended], on_failure=[ended], on_crashed=[ended], on_cancellation=[ended])
def candidate(
    hours: dict[str, float] | None = None,
    notify: str | None = None,  # noqa: ARG001 - both are the hook's
    notify_on: tuple[Outcome, ...] = WORTH_TELLING,  # noqa: ARG001
) -> State[Any]:
    """Brings every stage up to date that need not wait for the gate. Stops at the first one that fails.

    Args:
        hours: stage -> after how many hours it is ended and the run fails; a stage without has no limit.
        notify: a notification block, as ``type/name``, such as ``slack-webhook/safety``; null for none.
        notify_on: names of the states that are told through it.
    """
    try:
        load_settings(Paths().params)
        with working():
            stages.end_abandoned_runs()
            failed = run_stages(stages.stages(before="gate"), hours or {})
    except (DvcException, MlcError) as error:
        return Failed(message=without_secrets(str(error)))
    if failed is not None:
        return Failed(name=failed.name, message=failed.message)
    return Completed(message="The candidate is trained and evaluated; `retrain` in this folder gates and registers it.")
