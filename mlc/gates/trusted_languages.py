"""The trust stage: in which languages the base is already safe, so that the others can be led to what it does there."""

from __future__ import annotations

from typing import Any, Literal

from mlc.errors import MlcError
from mlc.files import read_json, write_json, write_jsonl
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.prompts.schema import read_prompts
from mlc.settings import Evaluate, Gate, Languages


def _measure(languages: Languages, evaluate: Evaluate, gate: Gate, paths: Paths) -> dict[str, Any]:
    """The gate's safe-rate rule on the base's replies to the harmful tuning prompts, in every served language.

    The replies are kept in ``samples.jsonl``.
    """
    import pandas as pd

    from mlc.evaluation.samples import Sample, write_samples
    from mlc.evaluation.stage import sample
    from mlc.gates.stage import safe_rate_rule

    rows = read_prompts(paths.prompts / "tuning.jsonl", made_by="mlc validate")
    asked = [(r, tag) for r in rows if r.intent == "harmful" for tag in languages.served if tag in r.prompts]
    # Without how long each took, so that the same replies are the same file, and who reads it does not run again.
    judged = [s.model_copy(update={"seconds": 0.0}) for s in sample(asked, evaluate, paths.subject("base"))]
    samples = pd.DataFrame([s.model_dump() for s in judged], columns=list(Sample.model_fields))
    rules = {tag: safe_rate_rule(samples, tag, languages.served, gate) for tag in languages.served}
    trusted = [tag for tag, rule in rules.items() if rule["passed"]]
    doubted = [f"{language_name(tag)}: {rule['reason']}" for tag, rule in rules.items() if not rule["passed"]]
    if not trusted:
        raise MlcError(
            "the base's safe rate on the tuning prompts passes the gate in no language ("
            + "; ".join(doubted)
            + "): name the languages to trust in train.objective.trusted_languages, or name none ([]) and use an"
            " objective that trusts none (name: mlc, refusal_weight: 0)"
        )
    print("\n  ".join(["not trusted:", *doubted]) if doubted else "the base passes in every served language")
    write_samples(paths.trust_samples, judged)
    evidence = {tag: {key: rule[key] for key in ("value", "bound", "n", "passed")} for tag, rule in rules.items()}
    return {"trusted": trusted, "how": "measured", "evidence": evidence}


def run(
    languages: Languages, setting: tuple[str, ...] | Literal["auto"], evaluate: Evaluate, gate: Gate, paths: Paths
) -> None:
    """Writes ``artifacts/trust/languages.json``: named languages as they are, or for ``auto`` what is measured.

    ``samples.jsonl`` beside it holds the replies that the measurement rests on, none for named languages.

    Raises:
        MlcError: for ``auto``, the prompts, the base or the judge are missing, or the base passes in no language.
    """
    if setting == "auto":
        content = _measure(languages, evaluate, gate, paths)
    else:
        content = {"trusted": list(setting), "how": "named", "evidence": {}}
        write_jsonl(paths.trust_samples, [])
    write_json(paths.trust, content)
    if setting == "auto":
        from mlc.evaluation.stage import forget

        forget(paths.subject("base"))
    print(f"trusted ({content['how']}): {', '.join(content['trusted']) or 'none'}")


def trusted(paths: Paths) -> tuple[str, ...]:
    """The languages that the stage wrote down.

    Raises:
        MlcError: the file is missing, or holds no list of languages.
    """
    tags = read_json(paths.trust, "mlc trust").get("trusted")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise MlcError(f"{paths.trust} holds no list of trusted languages: run `mlc trust` again")
    return tuple(tags)
