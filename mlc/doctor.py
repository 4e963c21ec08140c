"""``mlc doctor``: what would stop a run, before it starts, and what to do about it. It changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from mlc import lock, manifest
from mlc.errors import MlcError
from mlc.escape import visible
from mlc.paths import Paths
from mlc.prompts.schema import iter_prompts
from mlc.settings import Settings, load_settings

SETS = ("alignment", "tuning", "evaluation")
GIB = 2**30
SLACK = 2 * GIB  # beside the models: prompts, samples, logs, DVC's cache of them
SECONDS = 10  # to wait for a server


class Check(NamedTuple):
    """What was looked at, what was found, and what to do; ``state`` problem is what would stop a run."""

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str
    todo: str = ""


def _python(_: Paths) -> Iterator[Check]:
    words = f"{sys.version.split()[0]} at {sys.executable}"
    yield Check("python", "ok", words)


def _packages(_: Paths) -> Iterator[Check]:
    wrong = []
    count = 0
    for text in requires("mlc-pipeline") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
    if wrong:
        todo = "install mlc-pipeline again, with the versions of its constraints.txt"
        yield Check("packages", "problem", "; ".join(wrong), todo)
    else:
        yield Check("packages", "ok", f"mlc-pipeline {version('mlc-pipeline')}, {count} requirements met")


def _disk(paths: Paths) -> Iterator[Check]:
    """A run keeps the base, the candidate, its copy in DVC's cache and in the registry, and two checkpoints: six."""
    base = sum(file.stat().st_size for file in paths.base.rglob("*") if file.is_file()) if paths.base.is_dir() else 0
    needed, free = 6 * base + SLACK, shutil.disk_usage(paths.root).free
    words = f"{free / GIB:.1f} GiB free, about {needed / GIB:.1f} needed"
    if free < needed:
        yield Check("disk", "problem", words, "free some space: `dvc gc --workspace` drops what no file here needs")
    else:
        yield Check("disk", "ok", words)


def _gpu(settings: Settings) -> Check:
    """By nvidia-smi, which answers at once: torch takes seconds to import."""
    tool = shutil.which("nvidia-smi")
    done = tool and subprocess.run([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"],
                                   capture_output=True, text=True)  # fmt: skip
    cards = done.stdout.strip().splitlines() if done and not done.returncode else []
    if settings.train.processes > max(1, len(cards)):
        return Check(
            "gpu", "problem", f"{len(cards)} for train.processes {settings.train.processes}", "lower train.processes"
        )
    if cards:
        return Check("gpu", "ok", "; ".join(cards))
    if settings.train.lora is not None and settings.train.lora.load_in_4bit:
        return Check(
            "gpu", "warning", "none, and train.lora.load_in_4bit is made for one", "train where there is a GPU"
        )
    if settings.train.precision == "bfloat16":
        return Check("gpu", "warning", "none: training in bfloat16 on a CPU is slow", "train where there is a GPU")
    return Check("gpu", "ok", "none: the CPU trains, which is enough for small models")


def _hub_models(settings: Settings, paths: Paths) -> list[tuple[str, str | None]]:
    named = [
        (settings.base.model, settings.base.revision),
        (settings.validate_.encoder, settings.validate_.encoder_revision),
    ]
    named += [(judge.model, judge.revision) for judge in settings.evaluate.judges if judge.name == "guard"]
    return [(model, revision) for model, revision in named if model and not (paths.root / model).is_dir()]


def _hub(settings: Settings, paths: Paths) -> Iterator[Check]:
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
                    "hub", "problem", f"{model}: {_first(error)}", "check its name, its revision and the network"
                )
            else:
                yield Check("hub", "ok", f"{model}: can be fetched")


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _dvc(paths: Paths) -> Iterator[Check]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(paths.root))
    except NotDvcRepoError:
        yield Check("dvc", "problem", "no DVC project here", "`mlc init` sets one up")
        return
    except DvcException as error:
        yield Check("dvc", "problem", _first(error), "mend .dvc/config")
        return
    with repo:
        try:
            stages = len(list(repo.index.stages))
        except DvcException as error:
            yield Check("dvc", "problem", _first(error), "mend dvc.yaml, or bring back the committed one")
            return
        remotes = list(repo.config["remote"])
        words = f"{stages} stages and data files"
        if not repo.config["core"].get("remote"):
            todo = "`dvc remote add --default NAME URL`, so that others can pull, and a lost disk loses nothing"
            yield Check("dvc", "warning", f"{words}; no default remote: results are on this disk alone", todo)
        else:
            yield Check("dvc", "ok", words)
        for name in remotes:
            yield _remote(repo, name)


def _remote(repo: object, name: str) -> Check:
    """Asks for one hash that no file has: that takes a connection and the right to read."""
    try:
        remote = repo.cloud.get_remote_odb(name=name)  # type: ignore[attr-defined] # DVC has no types
        remote.exists("0" * 32)
    except Exception as error:  # each kind of storage has its own
        return Check("remote", "problem", f"{name}: {_first(error)}", "check its url and your credentials for it")
    return Check("remote", "ok", f"{name}: {remote.path} can be reached")


def _tracking(settings: Settings, paths: Paths) -> Iterator[Check]:
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
    from mlc import tracking

    shown = address.rpartition("@")[2]  # without a password
    try:
        client = tracking.client(paths)
        found = client.get_experiment_by_name(tracking.experiment_name())
        client.search_registered_models(max_results=1)
    except Exception as error:
        todo = "check MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and that it runs"
        yield Check("tracking", "problem", f"{shown}: {_first(error)}", todo)
        return
    name = settings.register_.model_name
    where = f"experiment {tracking.experiment_name()}" if found else "no experiment yet: the first run makes it"
    yield Check("tracking", "ok", f"{shown} answers; {where}")
    yield _may_write(client, name)


def _may_write(client: object, name: str) -> Check:
    """Sets a tag of the registered model to what it is: nothing changes, and a right that is missing shows."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_tag(name, "mlc.doctor", "may write")  # type: ignore[attr-defined] # MLflow, untyped
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Check("permissions", "ok", f"{name} is not registered yet: the first version shows who may")
        todo = f"ask whoever runs the server for the right to edit {name}, or let another user register"
        return Check("permissions", "problem", f"{name}: {_first(error)}", todo)
    return Check("permissions", "ok", f"{name} may be edited")


def _git(paths: Paths) -> Iterator[Check]:
    try:
        state = manifest.git_state(paths.root)
        who = subprocess.run(["git", "-C", str(paths.root), "var", "GIT_AUTHOR_IDENT"], capture_output=True, text=True)
    except (MlcError, FileNotFoundError) as error:
        yield Check("git", "problem", _first(error), "install git")
        return
    if state["commit"] is None:
        yield Check("git", "problem", "no commit: what is trained cannot be registered", "`git init`, then commit")
    elif state["dirty"]:
        files = ", ".join(map(visible, state["changed"][:5])) + (", …" if len(state["changed"]) > 5 else "")
        todo = "commit: a candidate trained from uncommitted changes is never registered"
        yield Check("git", "warning", f"uncommitted changes: {files}", todo)
    else:
        yield Check("git", "ok", f"commit {state['commit'][:12]}, nothing uncommitted")
    if who.returncode:
        todo = "`git config user.name …` and `git config user.email …`: the registry's ledger says who"
        yield Check("identity", "warning", "git does not know who you are", todo)
    else:
        yield Check("identity", "ok", who.stdout.rpartition(" <")[0])


def _base(settings: Settings, paths: Paths) -> Iterator[Check]:
    from mlc import base

    folder = paths.root / settings.base.model
    try:
        if folder.is_dir():
            base.check_files(settings.base.model, folder)
        else:
            base.check_pin(settings.base.model, settings.base.revision)
    except MlcError as error:
        yield Check("base", "problem", str(error), "see above")
        return
    where = "a folder here" if folder.is_dir() else f"of the hub, at {settings.base.revision}"
    yield Check("base", "ok", f"{settings.base.model}, {where}")


def _prompts(settings: Settings, paths: Paths) -> Iterator[Check]:
    for name in SETS:
        path = paths.data / f"{name}.jsonl"
        seen: dict[str, int] = {}
        rows = 0
        try:
            for row in iter_prompts(path):
                rows += 1
                for tag in row.prompts:
                    seen[tag] = seen.get(tag, 0) + 1
        except MlcError as error:
            yield Check("prompts", "problem", str(error), "`mlc import` makes one from a published set or a table")
            continue
        missing = [tag for tag in settings.languages.served if tag not in seen]
        if missing:
            words = f"{path}: {rows} rows, none in {', '.join(missing)}"
            yield Check(
                "prompts", "problem", words, "`mlc translate` fills in, or take the language out of params.yaml"
            )
        else:
            yield Check("prompts", "ok", f"{path}: {rows} rows in every served language")


def _schedule(_: Paths) -> Iterator[Check]:
    address = os.environ.get("PREFECT_API_URL")
    if address is None:
        yield Check("prefect", "ok", "no server is configured: `mlc run` starts its own")
        return
    import httpx

    try:
        httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        todo = "check PREFECT_API_URL, and that `prefect server start` runs"
        yield Check("prefect", "problem", f"{address.rpartition('@')[2]}: {_first(error)}", todo)
    else:
        yield Check("prefect", "ok", f"{address.rpartition('@')[2]} answers")


def run(paths: Paths) -> list[Check]:
    """Looks at everything that a run needs. A setting or file that is wrong is a check that failed, not an error."""
    checks: list[Check] = []
    for look in (_python, _packages, _disk, _git, _dvc, _schedule):
        checks += look(paths)
    try:
        settings = load_settings(paths.params)
        lock.check(paths.root / lock.NAME)
    except MlcError as error:
        return [*checks, Check("settings", "problem", str(error), "mend it, then run `mlc doctor` again for the rest")]
    checks += [Check("settings", "ok", f"{paths.params} is valid"), _gpu(settings)]
    with_settings: tuple[Callable[[Settings, Paths], Iterator[Check]], ...] = (_base, _prompts, _hub, _tracking)
    for examine in with_settings:
        checks += examine(settings, paths)
    return checks


def table(checks: list[Check]) -> str:
    """A line each, with what to do below it, and a sum."""
    lines = []
    for check in checks:
        lines.append(f"{'OK' if check.state == 'ok' else check.state:<8} {check.name:<12} {check.found}")
        if check.todo:
            lines.append(f"{'':21} -> {check.todo}")
    count = {state: sum(check.state == state for check in checks) for state in ("problem", "warning")}
    return "\n".join([*lines, "", f"{count['problem']} problems, {count['warning']} warnings"])
