"""The retraining job: one Prefect task per stage of dvc.yaml, in the order of DVC's own graph.

DVC decides what is up to date and each stage what it does; here is only what people need around that: when nothing has
to be done, who is asked and told, and the results where the run is looked at. The project is the working directory.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from mlflow.exceptions import MlflowException
from prefect import State, flow, get_run_logger, pause_flow_run
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.states import Completed, Failed
from pydantic import Field

from flows import stages
from flows.notify import WORTH_TELLING, Outcome, ended, send
from flows.stages import run_stages, working
from mlc import tracking
from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.gates.verdict import Verdict
from mlc.paths import ROLES, Paths
from mlc.registry.model import RegisteredModel
from mlc.registry.registration import Registration, outdated
from mlc.settings import Settings, load_settings
from mlc.text import HEADLINE_RATES, MISSING, markdown, shown_uri, title, with_interval, without_secrets


def _table(paths: Paths) -> list[dict[str, str]]:
    metrics = {role: Metrics.read(paths.evaluation(role) / "metrics.json", "mlc metrics") for role in ROLES}
    rows = []
    for language in metrics["candidate"].languages:
        row = {"language": language}
        for rate in HEADLINE_RATES:
            for role in ROLES:
                estimate = metrics[role].languages.get(language, {}).get(rate)
                row[f"{title(rate)}, {role}"] = with_interval(estimate) if estimate else MISSING
        rows.append(row)
    return rows


def outcome(paths: Paths, shown: Callable[[str], str] = str) -> tuple[str, str]:
    """The name of a finished flow's state, and the verdict in words.

    ``shown`` is how text that people have written looks where this goes; nothing in it acts on a terminal.

    Raises:
        MlcError: there is no verdict, or no record of the registration.
    """
    verdict, registration = Verdict.read(paths.verdict, "mlc gate"), Registration.of(paths)
    version, champion = registration.version, registration.champion
    reason = shown(registration.reason or "")
    now = f"The champion is version {champion}." if champion else "There is no champion."
    if registration.promoted:
        return "Promoted", f"Passed and registered as version {version}. It is the champion."
    if registration.waiting:
        todo = f'`mlc registry approve {version} --why "..."` promotes it, `mlc registry reject {version} ...` does not'
        return "Waiting", f"Passed and registered as version {version}, which waits for approval: {todo}. {now}"
    if registration.registered:
        message = f"Passed and registered as version {version}, not promoted: {reason}. {now}"
        return "Registered", message
    failed = "".join(f"\n- {sentence}" for sentence in verdict.failed)
    return "Refused", f"Not registered: {reason}. {now}{failed}"


class Approval(RunInput):
    """What the person says whom a run asks."""

    approve: bool = Field(description="promote the version; otherwise it is rejected, and never promoted by itself")
    who: str = Field(min_length=1, description="your name, for the ledger")
    why: str = Field(min_length=1, description="for the ledger")


def unchanged(settings: Settings, paths: Paths) -> bool:
    """Are data, code, parameters and outputs as the last run left them, and the registry too?

    Raises:
        DvcException: DVC cannot tell.
        MlflowException: the registry cannot be reached.
    """
    with Repo() as repo:
        if repo.status():
            return False
    if not paths.registration.exists() or not paths.verdict.exists():
        return False
    return outdated(paths, RegisteredModel(paths, settings.register_.model_name)) is None


def _bring_up_to_date(settings: Settings, paths: Paths, hours: dict[str, float]) -> State[Any] | None:
    """Runs every stage that is out of date; the state of the one that failed, if so.

    DVC looks at files, and skips `register` where the registry alone has changed. Its record is removed then, which is
    what DVC sees: a record of another registry is no result.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    for _ in range(2):  # once more where somebody changed the registry while the stages ran
        if paths.registration.exists() and (changed := outdated(paths, model)):
            get_run_logger().info("the registry is not as the last run left it (%s): registering again", changed)
            paths.registration.unlink()
        if failed := run_stages(stages.stages(), hours):
            return failed
        if paths.registration.exists() and outdated(paths, model) is None:
            return None
    changed = outdated(paths, model)
    return (
        Failed(message=f"{paths.registration} is not what the registry holds ({changed}): run again")
        if changed
        else None
    )


def _ask(settings: Settings, paths: Paths, hours: float, notify: str | None) -> None:
    """Asks on the run's page whether the version that waits is to be promoted, and does it.

    Raises:
        MlcError: the version is no longer what it was, or no longer better than the champion.
    """
    from mlc.registry.promotion import approve, reject

    version, message = Registration.of(paths).version, outcome(paths)[1]
    assert version is not None  # one waits
    if notify:
        send(notify, "retrain: Waiting", f"{message}\nOr answer on the page of the run.")
    try:
        answer = pause_flow_run(
            Approval.with_initial_data(description=f"# Promote version {version}?\n{outcome(paths, markdown)[1]}"),
            timeout=int(hours * 3600),
        )
    except FlowPauseTimeout:
        get_run_logger().warning("nobody has answered in %g hours", hours)
        return
    decide = approve if answer.approve else reject
    get_run_logger().info(decide(paths, settings, version, answer.who, answer.why))


def _show(paths: Paths) -> tuple[str, str]:
    name, message = outcome(paths)
    create_table_artifact(table=_table(paths), key="languages", description="Rates with their intervals")
    create_markdown_artifact(f"# {name}\n{outcome(paths, markdown)[1]}", key="verdict")
    create_link_artifact((paths.report / "index.html").resolve().as_uri(), key="report", link_text="The report")
    return name, message


@flow(on_completion=[ended], on_failure=[ended], on_crashed=[ended], on_cancellation=[ended])
def retrain(
    hours: dict[str, float] | None = None,
    notify: str | None = None,
    notify_on: tuple[Outcome, ...] = WORTH_TELLING,
    approval_hours: float = 12,
) -> State[Any]:
    """Brings everything up to date, stage by stage, and shows the result. Stops at the first stage that fails.

    Args:
        hours: stage -> after how many hours it is ended and the run fails; a stage without has no limit.
        notify: a notification block, as ``type/name``, such as ``slack-webhook/safety``; null for none.
        notify_on: names of the states that are told through it.
        approval_hours: where ``register.approval`` is required, how long a scheduled run waits on its page for somebody
            to approve. The command line can approve at any time.
    """
    paths = Paths()
    try:
        settings = load_settings(paths.params)
        with working():
            stages.end_abandoned_runs()
            if unchanged(settings, paths):
                message = outcome(paths)[1].splitlines()[0]
                get_run_logger().info("data, code, parameters and champion are unchanged: nothing to do")
                return Completed(name="Unchanged", message=f"Nothing has changed since the last run. {message}")
            failed = _bring_up_to_date(settings, paths, hours or {})
        if failed is not None:
            return Failed(name=failed.name, message=failed.message)
        name, message = _show(paths)
        if name == "Waiting" and deployment.id is not None:
            _ask(settings, paths, approval_hours, notify if "Waiting" in notify_on else None)
            name, message = _show(paths)
    except (DvcException, MlcError, MlflowException) as error:
        return Failed(message=without_secrets(str(tracking.explained(error))))
    return Completed(name=name, message=message.splitlines()[0])


class _Formatter(logging.Formatter):
    """Keeps secrets out of the libraries' lines and stack traces."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _readable_logs() -> None:
    """Shows the stages' own lines, and of Prefect and the libraries only what needs attention."""
    handler = logging.StreamHandler(sys.stdout)
    layout = "%(asctime)s  %(task_run_name)-18s  %(message)s"
    handler.setFormatter(_Formatter(layout, "%H:%M:%S", defaults={"task_run_name": ""}))
    runs = ("prefect.flow_runs", "prefect.task_runs")
    own = (__file__, stages.__file__)
    handler.addFilter(
        lambda r: r.pathname in own if r.name.startswith(runs) else r.levelno >= logging.WARNING  # their states
    )
    logging.getLogger().handlers = [handler]
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in runs:
        logging.getLogger(name).setLevel(logging.INFO)


def _registry() -> str:
    """Where the registry can be looked at: the server's page, or the command that shows a store."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and address.startswith("http"):
        return shown_uri(address)
    store = '"$MLFLOW_TRACKING_URI"' if address else "sqlite:///mlflow/mlflow.db"  # the shell knows its password
    return f"mlflow ui --backend-store-uri {store}"


def main() -> int:
    """Runs the flow in this process and says how it ended; what `mlc run` does.

    Returns:
        0 when the candidate is registered, whether or not it is champion or waits for approval; 3 when it was refused;
        1 when a stage failed; also when that was before and nothing has changed since.
    """
    _readable_logs()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Leaves in order, so that the stage's processes and Prefect's server end too; nohup stays nohup.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    print("Starting Prefect", flush=True)
    state = retrain(return_state=True)
    if not state.is_completed():
        print(f"\nFailed     {state.message}")
        return 1
    paths = Paths()
    name, message = outcome(paths)
    before = "Nothing has changed since the last run. " if state.name == "Unchanged" else ""
    print(f"\n{state.name:<10} {before}{message}")
    print(f"Report     {paths.report / 'index.html'}")
    print(f"Registry   {_registry()}")
    return 3 if name == "Refused" else 0
