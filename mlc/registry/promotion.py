"""What people do with versions: approve, reject, promote, roll back. Nothing becomes champion here unverified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import read_json, write_json
from mlc.gates.paired import compare_with_champion
from mlc.gates.rules import Rule, sentence
from mlc.paths import Paths
from mlc.registry.ledger import Model, refused
from mlc.registry.verify import EVIDENCE, fetched, verified
from mlc.settings import Languages, Settings


def check_rules(verdict: Mapping[str, Any], languages: Languages) -> None:
    """A verdict agrees with its own rules, and has some about every served language and no other.

    Raises:
        MlcError: it does not.
    """
    rules = verdict["rules"]
    judged = {rule["language"] for rule in rules} - {None}  # some rules are about all languages together
    if judged != set(languages.served) or verdict["passed"] != all(rule["passed"] for rule in rules):
        raise MlcError("the verdict does not fit its own rules or languages.served")


def compare(
    model: Model, samples: Path, champion: str, languages: Languages, margin: float, confidence: float
) -> tuple[list[Rule], str | None]:
    """The comparison of a candidate's sample lines with the champion's, and why it does not replace it, if so."""
    with fetched(model, champion, f"{EVIDENCE}/samples.jsonl") as file:
        rules = compare_with_champion(read_samples(samples), read_samples(file), languages.served, margin, confidence)
    failed = [rule for rule in rules if not rule["passed"]]
    if not failed:
        return rules, None
    if [rule["rule"] for rule in failed] == ["better_somewhere"]:
        return rules, f"no better than champion version {champion}"
    return rules, f"champion version {champion} stays: {sentence(failed[0])}"


def record(model: Model, registration: Mapping[str, Any], paths: Paths) -> None:
    """Writes ``artifacts/registration.json`` with the aliases and the ledger as they are now."""
    aliases = model.aliases()
    champion = aliases.get("champion")
    now = {"champion": champion, "previous": aliases.get("previous"), "ledger": model.ledger()}
    promoted = registration["version"] is not None and registration["version"] == champion
    write_json(paths.registration, {**registration, **now, "promoted": promoted})


def _update_record(model: Model, version: str, reason: str | None, paths: Paths) -> None:
    """Brings the record of the last registration, if it is there, up to what a person has decided since."""
    if not paths.registration.exists():
        return
    registration = read_json(paths.registration, "mlc register")
    if registration["model"] != model.name:
        return
    if registration["version"] == version:
        registration |= {"waiting": False, "reason": reason}
    record(model, registration, paths)


def _lost(model: Model, version: str, folder: Path, settings: Settings) -> str | None:
    """Why a version would not replace the present champion; None if it would, or there is none.

    Raises:
        MlcError: its verdict does not cover the languages that are served now.
    """
    verdict = read_json(folder / EVIDENCE / "verdict.json", "mlc register")
    check_rules(verdict, settings.languages)
    champion = model.alias("champion")
    if champion in (None, version):
        return None
    samples, margin = folder / EVIDENCE / "samples.jsonl", settings.register_.margin
    return compare(model, samples, champion, settings.languages, margin, verdict["gate"]["confidence"])[1]


def _check_not_rejected(model: Model, version: str) -> None:
    words = refused(model.ledger(), version)
    if words and words.startswith("rejected"):
        raise MlcError(f"version {version} of {model.name} was {words}: it is never promoted again; train another")


def approve(paths: Paths, settings: Settings, version: str, who: str, why: str) -> str:
    """Promotes the candidate that waits, after checking again all that made it one. Returns what happened, in words.

    Raises:
        IntegrityError: a file, the manifest or the verdict is not what was registered.
        MlcError: the version is not the candidate, was rejected or rolled back, does not cover the served languages, or
            is not better than the champion that there is now; or there is no ``why``.
    """
    model = Model(paths, settings.register_.model_name)
    _check_why(why)
    version = str(model.version(version).version)
    with model.moving():
        _check_not_rejected(model, version)
        if version == model.alias("champion"):
            model.make_champion("approve", version, who, why)
            _update_record(model, version, None, paths)
            return f"version {version} of {model.name} is champion already"
        if version != model.alias("candidate"):
            raise MlcError(f"version {version} of {model.name} is not the candidate: `mlc registry list` shows it")
        if words := refused(model.ledger(), version):
            raise MlcError(f"version {version} of {model.name} was {words}: `mlc registry promote` can bring it back")
        with verified(model, version) as folder:
            if lost := _lost(model, version, folder, settings):
                raise MlcError(f"version {version} of {model.name} does not replace the champion any more: {lost}")
        model.make_champion("approve", version, who, why)
        _update_record(model, version, None, paths)
    return f"version {version} of {model.name} is champion"


def reject(paths: Paths, settings: Settings, version: str, who: str, why: str) -> str:
    """Writes down that a version is never to be promoted, and takes the alias ``candidate`` from it.

    Raises:
        MlcError: there is no such version, it is champion, or there is no ``why``.
    """
    model = Model(paths, settings.register_.model_name)
    _check_why(why)
    version = str(model.version(version).version)
    with model.moving():
        if version == model.alias("champion"):
            raise MlcError(f"version {version} of {model.name} is champion: `mlc registry rollback` takes it back")
        words = refused(model.ledger(), version)
        if not (words and words.startswith("rejected")):
            model.write("reject", None, version, None, who, why)
        if version == model.alias("candidate"):
            model.move("reject", "candidate", None, who, why)
        _update_record(model, version, refused(model.ledger(), version), paths)
    return f"version {version} of {model.name} is rejected"


def promote(paths: Paths, settings: Settings, version: str, who: str, why: str = "") -> str:
    """Makes any version champion, verified first.

    Raises:
        IntegrityError: a file, the manifest or the verdict is not what was registered.
        MlcError: the version was rejected or does not cover the served languages; or there is no ``why``, and it was
            rolled back, lost to the champion, or needs approval.
    """
    model = Model(paths, settings.register_.model_name)
    version = str(model.version(version).version)
    with model.moving():
        _check_not_rejected(model, version)
        with verified(model, version) as folder:
            doubt = _lost(model, version, folder, settings)
        doubt = refused(model.ledger(), version) or doubt
        if not doubt and settings.register_.approval == "required":
            doubt = "register.approval is required"
        if doubt and not why.strip():
            raise MlcError(f"version {version} of {model.name} is not promoted without a reason ({doubt}): add --why")
        model.make_champion("promote", version, who, why)
        _update_record(model, version, None, paths)
    return f"version {version} of {model.name} is champion"


def rollback(paths: Paths, settings: Settings, who: str, why: str = "") -> str:
    """Makes the previous champion champion again, verified first.

    Raises:
        IntegrityError: the previous champion is not what was registered; the present one stays.
        MlcError: there is no previous champion, or it cannot be read.
    """
    model = Model(paths, settings.register_.model_name)
    with model.moving():
        # If both are the same, a rollback was interrupted between the two: this completes it and goes back no further.
        previous, champion = model.alias("previous"), model.alias("champion")
        if previous is None:
            raise MlcError(
                f"{model.name} has no previous champion to go back to: `mlc registry list` shows what there is"
            )
        with verified(model, previous):
            model.make_champion("rollback", previous, who, why)
        if champion is not None and champion != previous:
            _update_record(model, champion, refused(model.ledger(), champion), paths)
    return f"version {previous} of {model.name} is champion"


def _check_why(why: str) -> None:
    if not why.strip():
        raise MlcError("say why, for the ledger: --why")
