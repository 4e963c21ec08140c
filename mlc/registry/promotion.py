"""What people do with versions: approve, reject, promote, roll back. Nothing becomes champion here unverified."""

from __future__ import annotations

from pathlib import Path

from mlc.errors import IntegrityError, MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import sha256_json
from mlc.gates.paired import compare_with_champion
from mlc.gates.rules import RuleResult
from mlc.gates.verdict import Verdict
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.paths import Paths
from mlc.provenance.chain import check_tree
from mlc.registry import registration
from mlc.registry.ledger import Identity, rejection, rejection_reason
from mlc.registry.model import RegisteredModel
from mlc.registry.recheck import check_present_gate, evidence_faults
from mlc.registry.verify import EVIDENCE, VersionFiles, fetched, verified
from mlc.settings import Languages, Settings


def check_rules(verdict: Verdict, languages: Languages) -> None:
    """A verdict agrees with its own rules, and has some about every served language and no other.

    Raises:
        MlcError: it does not.
    """
    if verdict.languages != set(languages.served) or not verdict.follows_from_rules:
        raise MlcError("the verdict does not fit its own rules or languages.served")


def compare(
    model: RegisteredModel, samples: Path, champion: str, languages: Languages, margin: float, confidence: float
) -> tuple[list[RuleResult], str | None]:
    """The comparison of a candidate's sample lines with the champion's, and why it does not replace it, if so."""
    with fetched(model, champion, f"{EVIDENCE}/samples.jsonl") as file:
        rules = compare_with_champion(read_samples(samples), read_samples(file), languages.served, margin, confidence)
    failed = [rule for rule in rules if not rule.passed]
    if not failed:
        return rules, None
    if [rule.rule for rule in failed] == ["better_somewhere"]:
        return rules, f"no better than champion version {champion}"
    return rules, f"champion version {champion} stays: {failed[0].sentence}"


def _lost(model: RegisteredModel, version: str, folder: Path, settings: Settings) -> str | None:
    """Why a version would not replace the present champion; None if it would, or there is none.

    Raises:
        MlcError: its verdict does not cover the languages that are served now.
    """
    evidence = VersionFiles(folder).evidence
    verdict = evidence.verdict()
    check_rules(verdict, settings.languages)
    champion = model.alias("champion")
    if champion in (None, version):
        return None
    margin = settings.register_.margin
    return compare(model, evidence.samples, champion, settings.languages, margin, verdict.confidence)[1]


def _check_by_present_gate(version: str, folder: Path, settings: Settings) -> None:
    """The verdict of a version follows from its own files, and it passes the gate as it is set now.

    Raises:
        IntegrityError: the verdict does not follow from the files.
        MlcError: the version does not pass.
    """
    evidence = VersionFiles(folder).evidence
    if faults := evidence_faults(evidence):
        raise IntegrityError(f"version {version} is not what its verdict says: {'; '.join(faults)}. Do not use it")
    check_present_gate(evidence, settings, version)


def _identity_of(manifest: Manifest) -> Identity:
    """What a model is known by. Weights are equal where all their files are, whatever lies beside them."""
    files = {name: digest for name, digest in manifest.files.items() if name.endswith(".safetensors")}
    return {"manifest": manifest.digest, "weights": sha256_json(sorted((files or manifest.files).values()))}


def identity(model: RegisteredModel, version: str) -> Identity:
    """What a version is known by, as far as the store can say: nothing, where it was deleted."""
    if not model.exists(version):
        return {}
    tag = model.version(version).tags.get("manifest")
    try:
        with fetched(model, version, f"{EVIDENCE}/{manifests.NAME}") as file:
            manifest = Manifest.read(file, "mlc register")
    except MlcError:
        manifest = None
    if manifest is not None and tag in (None, manifest.digest):
        return _identity_of(manifest)
    return {"manifest": tag} if tag else {}


def turned_down(model: RegisteredModel, manifest: Manifest) -> str | None:
    """Why this model is not promoted by itself, where a person has rejected it or rolled it back as any version.

    What was said is about the model: the same manifest or equal weights under another number are no other one.
    """
    ledger, this = model.ledger(), _identity_of(manifest)
    reasons = []
    for version in dict.fromkeys(e["from"] for e in ledger if e["from"] and e["action"] in ("reject", "rollback")):
        reason = rejection_reason(ledger, version)
        if reason is None:
            continue
        known: Identity = {}
        for entry in ledger:
            if entry["from"] == version and "manifest" in entry:
                known["manifest"] = entry["manifest"]
                if "weights" in entry:
                    known["weights"] = entry["weights"]
        if "weights" not in known:  # an entry of before they were written down, or the files could not be read then
            known = {**known, **identity(model, version)}
        if known.items() & this.items():
            reasons.append(f"{reason} (as version {version})")
    return next((reason for reason in reasons if reason.startswith("rejected ")), next(iter(reasons), None))


def _never_again(model: RegisteredModel, version: str, reason: str) -> MlcError:
    return MlcError(f"version {version} of {model.name} was {reason}: it is never promoted again; train another")


def _check_not_rejected(model: RegisteredModel, version: str) -> None:
    if reason := rejection(model.ledger(), version):
        raise _never_again(model, version, reason)


def _doubt(model: RegisteredModel, version: str, folder: Path) -> str | None:
    """Why a version with these verified files is not promoted by itself, as a person has said; None if nobody has.

    Raises:
        MlcError: it was rejected, under this number or another.
    """
    reason = turned_down(model, VersionFiles(folder).evidence.manifest())
    if reason and reason.startswith("rejected "):
        raise _never_again(model, version, reason)
    return rejection_reason(model.ledger(), version) or reason


def approve(paths: Paths, settings: Settings, version: str, who: str, why: str) -> str:
    """Promotes the candidate that waits, after checking again all that made it one. Returns what happened, in words.

    Raises:
        IntegrityError: a file, the manifest or the verdict is not what was registered.
        MlcError: the version is not the candidate, was rejected or rolled back, does not cover the served languages, or
            is not better than the champion that there is now; or there is no ``why``.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    _check_why(why)
    check_tree(paths)
    version = str(model.version(version).version)
    with model.moving():
        _check_not_rejected(model, version)
        if version == model.alias("champion"):
            model.make_champion("approve", version, who, why)
            registration.update(model, version, None, paths)
            return f"version {version} of {model.name} is champion already"
        if version != model.alias("candidate"):
            raise MlcError(f"version {version} of {model.name} is not the candidate: `mlc registry list` shows it")
        with verified(model, version) as folder:
            if reason := _doubt(model, version, folder):
                raise MlcError(
                    f"version {version} of {model.name} was {reason}: `mlc registry promote` can bring it back"
                )
            _check_by_present_gate(version, folder, settings)
            if lost := _lost(model, version, folder, settings):
                raise MlcError(f"version {version} of {model.name} does not replace the champion any more: {lost}")
        model.make_champion("approve", version, who, why)
        registration.update(model, version, None, paths)
    return f"version {version} of {model.name} is champion"


def reject(paths: Paths, settings: Settings, version: str, who: str, why: str) -> str:
    """Writes down that a version is never to be promoted, and takes ``candidate`` and ``previous`` from it.

    Raises:
        MlcError: there is no such version, it or one of equal weights is champion, or there is no ``why``.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    _check_why(why)
    version = str(model.version(version).version)
    with model.moving():
        champion = model.alias("champion")
        if version == champion:
            raise MlcError(f"version {version} of {model.name} is champion: `mlc registry rollback` takes it back")
        if not rejection(model.ledger(), version):
            known = identity(model, version)
            if champion is not None and known.items() & identity(model, champion).items():
                raise MlcError(
                    f"version {version} of {model.name} has the weights of champion version {champion}:"
                    " `mlc registry rollback` takes that one back; then reject it"
                )
            model.write("reject", None, version, None, who, why, known)
        if version == model.alias("candidate"):
            model.move("reject", "candidate", None, who, why)
        if version == model.alias("previous"):
            model.set_previous("reject", who, why)
        registration.update(model, version, rejection_reason(model.ledger(), version), paths)
    return f"version {version} of {model.name} is rejected"


def promote(paths: Paths, settings: Settings, version: str, who: str, why: str = "") -> str:
    """Makes any version champion, verified first.

    Raises:
        IntegrityError: a file, the manifest or the verdict is not what was registered.
        MlcError: the version was rejected or does not cover the served languages; or there is no ``why``, and it was
            rolled back, lost to the champion, or needs approval.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    check_tree(paths)
    version = str(model.version(version).version)
    with model.moving():
        _check_not_rejected(model, version)
        with verified(model, version) as folder:
            _check_by_present_gate(version, folder, settings)
            lost = _lost(model, version, folder, settings)
            doubt = _doubt(model, version, folder) or lost
        if not doubt and settings.register_.approval == "required":
            doubt = "register.approval is required"
        if doubt and not why.strip():
            raise MlcError(f"version {version} of {model.name} is not promoted without a reason ({doubt}): add --why")
        model.make_champion("promote", version, who, why)
        registration.update(model, version, None, paths)
    return f"version {version} of {model.name} is champion"


def rollback(paths: Paths, settings: Settings, who: str, why: str = "") -> str:
    """Makes the previous champion champion again, verified first.

    Raises:
        IntegrityError: the previous champion is not what was registered; the present one stays.
        MlcError: there is no previous champion, or it cannot be read.
    """
    model = RegisteredModel(paths, settings.register_.model_name)
    with model.moving():
        # If both are the same, a rollback was interrupted between the two: this completes it and goes back no further.
        previous, champion = model.alias("previous"), model.alias("champion")
        if previous is None:
            gone = [version for version in model.gone() if version != champion]
            lost = f" (no longer in MLflow: version {', '.join(gone)})" if gone else ""
            raise MlcError(
                f"{model.name} has no previous champion to go back to{lost}: `mlc registry list` shows what there is"
            )
        undone = champion if champion is not None and champion != previous else None
        with verified(model, previous) as folder:
            reason = turned_down(model, VersionFiles(folder).evidence.manifest())
            if reason and reason.startswith("rejected "):
                raise _never_again(model, previous, reason)
            model.make_champion("rollback", previous, who, why, identity(model, undone) if undone else None)
        changed = undone or previous
        registration.update(model, changed, rejection_reason(model.ledger(), changed), paths)
    return f"version {previous} of {model.name} is champion"


def _check_why(why: str) -> None:
    if not why.strip():
        raise MlcError("say why, for the ledger: --why")
