"""``mlc doctor``: what would stop a run, before it starts, and what to do about it. It changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from mlc.errors import MlcError
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.project import lock
from mlc.project.connections import Check, dvc, hub, prefect, tracking
from mlc.project.devices import gpus
from mlc.project.init import ONLY_REFUSALS
from mlc.prompts.schema import SETS, languages_of, read_prompts
from mlc.provenance import code
from mlc.provenance.code import LOCK
from mlc.settings import Settings, load_settings
from mlc.text import one_line, visible, without_secrets

GIB = 2**30
SLACK = 2 * GIB  # beside the models: prompts, samples, logs, DVC's cache of them


def _python(_: Paths) -> Iterator[Check]:
    yield Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def _packages(_: Paths) -> Iterator[Check]:
    wrong = []
    count = 0
    for text in requires("mlc-pipeline") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            wrong.append(f"{wanted.name} {installed} is not {wanted.specifier}")
    if wrong:
        todo = "install mlc-pipeline again, with the versions of its constraints.txt"
        yield Check("packages", "problem", "; ".join(wrong), todo)
    else:
        yield Check("packages", "ok", f"mlc-pipeline {version('mlc-pipeline')}, {count} requirements met")


def _disk(paths: Paths) -> Iterator[Check]:
    """A run keeps the base, the candidate, its copy in DVC's cache and in the registry, and two checkpoints: six."""
    base = sum(file.stat().st_size for file in paths.base.rglob("*") if file.is_file()) if paths.base.is_dir() else 0
    needed, free = 6 * base + SLACK, shutil.disk_usage(paths.root).free
    space = f"{free / GIB:.1f} GiB free, about {needed / GIB:.1f} needed"
    if free < needed:
        yield Check("disk", "problem", space, "free some space: `dvc gc --workspace` drops what no file here needs")
    else:
        yield Check("disk", "ok", space)


def _gpu(settings: Settings) -> Check:
    cards = gpus()
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


def _gate(settings: Settings) -> Check:
    loose = settings.gate.unsafe_settings
    if not loose:
        return Check("gate", "ok", "no setting is looser than its floor")
    found = f"looser than their floor, by gate.unsafe_settings: {', '.join(loose)}"
    if "only_refusal_judge" in loose:
        return Check("gate", "warning", f"{found}. {ONLY_REFUSALS}", "name a guard or llm judge (docs/judges.md)")
    return Check("gate", "warning", found, "raise them before a model is released (docs/gates.md, Floors)")


def _git(paths: Paths) -> Iterator[Check]:
    try:
        state = code.state(paths.root)
        uncommitted = [*state.changed, *code.data_changes(paths.root)] if state.commit else []
        who = subprocess.run(["git", "-C", str(paths.root), "var", "GIT_AUTHOR_IDENT"], capture_output=True, text=True)
    except (MlcError, FileNotFoundError) as error:
        yield Check("git", "problem", one_line(error), "install git")
        return
    if state.commit is None:
        yield Check("git", "problem", "no commit: what is trained cannot be registered", "`git init`, then commit")
    elif uncommitted:
        files = ", ".join(map(visible, uncommitted[:5])) + (", …" if len(uncommitted) > 5 else "")
        todo = "commit: only what is committed is ever registered"
        yield Check("git", "warning", f"uncommitted changes: {files}", todo)
    else:
        yield Check("git", "ok", f"commit {state.commit[:12]}, nothing uncommitted")
    if who.returncode:
        todo = "`git config user.name …` and `git config user.email …`: the registry's ledger says who"
        yield Check("identity", "warning", "git does not know who you are", todo)
    else:
        yield Check("identity", "ok", who.stdout.rpartition(" <")[0])


def _base(settings: Settings, paths: Paths) -> Iterator[Check]:
    from mlc.models import base

    folder = paths.root / settings.base.model
    try:
        if paths.base.is_dir() or folder.is_dir():
            base.check_files(settings.base.model, folder if folder.is_dir() else paths.base)
        else:
            base.check_pin(settings.base.model, settings.base.revision)
    except MlcError as error:
        yield Check("base", "problem", str(error), "docs/your-model.md, What a base has to be")
        return
    where = "a folder here" if folder.is_dir() else f"of the hub, at {settings.base.revision}"
    yield Check("base", "ok", f"{settings.base.model}, {where}")


def _prompts(settings: Settings, paths: Paths) -> Iterator[Check]:
    for name in SETS:
        path = paths.data / f"{name}.jsonl"
        try:
            rows, seen = languages_of(path)
        except MlcError as error:
            yield Check("prompts", "problem", str(error), "`mlc import` makes one from a published set or a table")
            continue
        missing = [tag for tag in settings.languages.served if tag not in seen]
        if missing:
            reason = f"{path}: {rows} rows, none in {', '.join(missing)}"
            yield Check(
                "prompts", "problem", reason, "`mlc translate` fills in, or take the language out of params.yaml"
            )
        else:
            yield Check("prompts", "ok", f"{path}: {rows} rows in every served language")


def _licences(settings: Settings, paths: Paths) -> Iterator[Check]:
    if settings.gate.licences is None:
        return
    from mlc.gates import licences

    try:
        reasons = licences.cannot_pass(settings, paths)
    except MlcError:
        return  # the check of the prompts says what is wrong with them
    if reasons:
        yield Check("licences", "problem", reasons[0], "docs/licences.md says where each licence comes from")
    else:
        yield Check("licences", "ok", f"all that is there is under one of {', '.join(settings.gate.licences)}")


def _identification(settings: Settings, paths: Paths) -> Iterator[Check]:
    """Whether replies in the served languages can be judged by their language at all."""
    from mlc.gates.identification import lines, on_prompts, unattainable

    path = paths.data / f"{settings.evaluate.prompts}.jsonl"
    try:
        rows = read_prompts(path)
    except MlcError:
        return  # said above, of the prompts
    try:
        found = on_prompts(rows, settings.languages, settings.gate)
    except MlcError as error:
        yield Check("languages", "problem", str(error), "mend it, or set languages.identification_model to null")
        return
    reasons = unattainable(found, settings.gate)
    for reason in reasons:
        yield Check("languages", "problem", f"no candidate can pass {reason}", "see above, before anything is trained")
    unidentified = [language_name(tag) for tag in settings.languages.served if tag in settings.languages.unidentified]
    if unidentified:
        about = f"the language of replies is not judged in {', '.join(unidentified)} (languages.unidentified)"
        yield Check("languages", "warning", about, "have speakers look at some replies")
    if found and not reasons:
        yield Check("languages", "ok", "; ".join(map(str.strip, lines(found))))


def run(paths: Paths, tries_base: bool = True) -> list[Check]:
    """Looks at everything that a run needs. A setting or file that is wrong is a check that failed, not an error.

    ``tries_base`` loads the base, lets it answer, and trains a step, which nothing else tells.
    """
    return [check._replace(found=without_secrets(check.found)) for check in _checks(paths, tries_base)]


def _checks(paths: Paths, tries_base: bool) -> list[Check]:
    checks: list[Check] = []
    for look in (_python, _packages, _disk, _git, dvc, prefect):
        checks += look(paths)
    try:
        settings = load_settings(paths.params)
        lock.check(paths.root / LOCK)
    except MlcError as error:
        return [*checks, Check("settings", "problem", str(error), "mend it, then run `mlc doctor` again for the rest")]
    checks += [Check("settings", "ok", f"{paths.params} is valid"), _gpu(settings), _gate(settings)]
    looks: tuple[Callable[[Settings, Paths], Iterator[Check]], ...] = (
        _base,
        _prompts,
        _identification,
        _licences,
        hub,
        tracking,
    )
    for examine in looks:
        checks += examine(settings, paths)
    if tries_base and not any(check.name == "base" and check.state == "problem" for check in checks):
        from mlc.project.try_base import try_base

        checks += try_base(settings, paths)
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
