"""What ``mlc doctor`` asks of others: the hub, DVC's remotes, the tracking server, Prefect. It only reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mlc.paths import Paths
from mlc.settings import Settings
from mlc.text import one_line, shown_uri, without_secrets

SECONDS = 10  # to wait for a server
EDITS = ("EDIT", "MANAGE")  # MLflow's permissions that moving an alias takes


class Check(NamedTuple):
    """What was looked at, what was found, and what to do; ``state`` problem is what would stop a run."""

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str
    todo: str = ""


def _hub_models(settings: Settings, paths: Paths) -> list[tuple[str, str | None]]:
    named = [
        (settings.base.model, settings.base.revision),
        (settings.validate_.encoder, settings.validate_.encoder_revision),
    ]
    named += [(judge.model, judge.revision) for judge in settings.evaluate.judges if judge.name == "guard"]
    return [(model, revision) for model, revision in named if model and not (paths.root / model).is_dir()]


def hub(settings: Settings, paths: Paths) -> Iterator[Check]:
    """Whether the models of the hub that settings name are in the cache, or can be fetched."""
    models = _hub_models(settings, paths)
    if not models:
        yield Check("hub", "ok", "no setting names a model of the hub")
        return
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError

    for model, revision in models:
        if isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str):
            yield Check("hub", "ok", f"{model}: in the cache")
        elif constants.HF_HUB_OFFLINE:
            yield Check("hub", "problem", f"{model}: not in the cache, and HF_HUB_OFFLINE is set",
                        "fetch it where there is a network, or unset HF_HUB_OFFLINE")  # fmt: skip
        else:
            try:
                HfApi().model_info(model, revision=revision, timeout=SECONDS)
            except GatedRepoError:
                todo = "accept its terms on the hub, then set HF_TOKEN or run `hf auth login`"
                yield Check("hub", "problem", f"{model}: access has to be granted", todo)
            except Exception as error:  # whatever the network does
                yield Check(
                    "hub", "problem", f"{model}: {one_line(error)}", "check its name, its revision and the network"
                )
            else:
                yield Check("hub", "ok", f"{model}: can be fetched")


def dvc(paths: Paths) -> Iterator[Check]:
    """Whether DVC reads the project, and whether each of its remotes answers."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(paths.root))
    except NotDvcRepoError:
        yield Check("dvc", "problem", "no DVC project here", "`mlc init` sets one up")
        return
    except DvcException as error:
        yield Check("dvc", "problem", one_line(error), "mend .dvc/config")
        return
    with repo:
        try:
            stages = len(list(repo.index.stages))
        except DvcException as error:
            yield _unreadable(error)
            return
        remotes = list(repo.config["remote"])
        summary = f"{stages} stages and data files"
        if not repo.config["core"].get("remote"):
            todo = "`dvc remote add --default NAME URL`, so that others can pull, and a lost disk loses nothing"
            yield Check("dvc", "warning", f"{summary}; no default remote: results are on this disk alone", todo)
        else:
            yield Check("dvc", "ok", summary)
        for name in remotes:
            yield _remote(repo, name)


def _unreadable(error: Exception) -> Check:
    """Names the file that DVC could not read, which may be dvc.yaml, params.yaml, dvc.lock or a .dvc file."""
    file = getattr(error, "path", "dvc.yaml")
    mark = getattr(error.__cause__, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return Check("dvc", "problem", f"{one_line(error)}{where}", f"mend {file}, or bring back the committed one")


def _remote(repo: object, name: str) -> Check:
    """Asks for one hash that no file has: that takes a connection and the right to read."""
    configuration: dict[str, object] = repo.config["remote"][name]  # type: ignore[attr-defined]
    try:
        remote = repo.cloud.get_remote_odb(name=name)  # type: ignore[attr-defined] # DVC has no types
        remote.exists("0" * 32)
    except Exception as error:  # each kind of storage has its own
        reason = one_line(without_secrets(str(error), configuration) or type(error).__name__)
        return Check("remote", "problem", f"{name}: {reason}", "check its url and your credentials for it")
    return Check("remote", "ok", f"{name}: {without_secrets(shown_uri(remote.path), configuration)} can be reached")


def tracking(settings: Settings, paths: Paths) -> Iterator[Check]:
    """Whether the tracking server answers, and lets this user edit the registered model."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address is None:
        folder = next(p for p in (paths.root / "mlflow", paths.root) if p.exists())
        if not os.access(folder, os.W_OK):
            yield Check(
                "tracking", "problem", f"{folder} cannot be written to", "give yourself the right to write there"
            )
        else:
            yield Check("tracking", "ok", "the local store in mlflow/")
        return
    # MLflow tries for minutes before it gives up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS))
    from mlc import tracking as store

    name = settings.register_.model_name
    server = shown_uri(address)
    try:
        client = store.client(paths)
        experiment = client.get_experiment_by_name(store.experiment_name())
        known = client.search_registered_models(f"name = '{name}'")
    except Exception as error:
        todo = "check MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and that it runs"
        yield Check("tracking", "problem", f"{server}: {one_line(error)}", todo)
        return
    where = f"experiment {store.experiment_name()}" if experiment else "no experiment yet: the first run makes it"
    yield Check("tracking", "ok", f"{server} answers; {where}")
    if known:
        yield from _may_edit(address, name)


def _may_edit(address: str, name: str) -> Iterator[Check]:
    """Asks a server with users what this one may do with the registered model; it answers about oneself alone."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user is None or not address.startswith("http"):
        return
    import httpx

    # MLflow's client has no call for it; a server without users has no such path.
    about = {"username": user, "resource_type": "registered_model", "resource_id": name}
    url = f"{address.rstrip('/')}/api/3.0/mlflow/users/permissions/get"
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    try:
        answer = httpx.get(url, params=about, auth=(user, password), timeout=SECONDS).raise_for_status()
        permission = answer.json()["permission"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError):
        return
    if permission in EDITS:
        yield Check("permissions", "ok", f"{user} may edit {name}")
    else:
        todo = f"ask whoever runs the server for the right to edit {name}, or let another user register"
        yield Check("permissions", "problem", f"{user} may not edit {name}: {permission}", todo)


def prefect(_: Paths) -> Iterator[Check]:
    """Whether Prefect's server answers, where one is named."""
    address = os.environ.get("PREFECT_API_URL")
    if address is None:
        yield Check("prefect", "ok", "no server is configured: `mlc run` starts its own")
        return
    import httpx

    try:
        httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        todo = "check PREFECT_API_URL, and that `prefect server start` runs"
        yield Check("prefect", "problem", f"{shown_uri(address)}: {one_line(error)}", todo)
    else:
        yield Check("prefect", "ok", f"{shown_uri(address)} answers")
