"""Telling people how a run ended, through a notification block of Prefect's: Slack, e-mail, any webhook."""

from __future__ import annotations

import re
from typing import Any, Literal

import prefect.blocks.notifications  # noqa: F401 - its blocks can be loaded by name once it is imported
from prefect import State, get_run_logger
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger

from mlc.text import without_secrets

_URL = re.compile(r"\b([a-z][\w+.-]*://)\S+", re.IGNORECASE)
Outcome = Literal[
    "Promoted", "Waiting", "Registered", "Refused", "Unchanged", "Passed", "BelowGate", "Failed", "Crashed", "Cancelled"
]
# What somebody has to know or to do something about; the rest is for those who look.
WORTH_TELLING: tuple[Outcome, ...] = (
    "Promoted", "Waiting", "Refused", "BelowGate", "Failed", "Crashed", "Cancelled",
)  # fmt: skip


def _log() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:  # a hook that the worker runs, after a crash
        return get_logger("mlc")


def send(block: str, subject: str, body: str) -> None:
    """Sends a message through a block, named as ``type/name``. That it cannot be sent is logged, and changes nothing:
    a run does not fail because somebody could not be told of it."""
    try:
        loaded = Block.load(block)
        if not isinstance(loaded, NotificationBlock):
            raise TypeError(f"{block} is no notification block")
        loaded.notify(body, subject)  # type: ignore[unused-coroutine] # in a thread without a loop it is none
    except Exception as error:  # whatever the service's library raises; a webhook's address is itself the secret
        reason = _URL.sub(r"\1***", without_secrets(str(error)))
        _log().error("Not notified through %s: %s: %s", block, type(error).__name__, reason)


def ended(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """State hook of a flow with the parameters ``notify`` and ``notify_on``: tells how the run ended."""
    block, wanted = flow_run.parameters.get("notify"), flow_run.parameters.get("notify_on", WORTH_TELLING)
    name = state.name if state.name in wanted or not state.is_failed() else "Failed"
    if block and name in wanted:
        send(block, f"{flow.name}: {state.name}", f"{state.message or state.name}\nRun: {flow_run.name}")
