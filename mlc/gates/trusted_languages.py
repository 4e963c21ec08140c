"""The trusted_languages stage: in which languages the base is already safe, so that the others can be led to it."""

from __future__ import annotations

from typing import Literal

from mlc.errors import MlcError
from mlc.files import write_jsonl
from mlc.languages.tags import language_name
from mlc.languages.trusted import Evidence, TrustedLanguages
from mlc.paths import Paths
from mlc.prompts.schema import read_prompts
from mlc.settings import Evaluate, Gate, Languages


def _measured(languages: Languages, evaluate: Evaluate, gate: Gate, paths: Paths) -> TrustedLanguages:
    """The gate's safe-rate rule on the base's replies to the harmful tuning prompts, in every served language.

    The replies are kept in ``samples.jsonl``.
    """
    import pandas as pd

    from mlc.evaluation.samples import Sample, write_samples
    from mlc.evaluation.sampling import sample
    from mlc.gates.rate_rules import safe_rate_rule

    rows = read_prompts(paths.prompts / "tuning.jsonl", made_by="mlc validate")
    pairs = [(r, tag) for r in rows if r.intent == "harmful" for tag in languages.served if tag in r.prompts]
    # Without how long each took, so that the same replies are the same file, and who reads it does not run again.
    judged = [
        s.model_copy(update={"seconds": 0.0}) for s in sample(pairs, evaluate, paths.under_test("base"), languages)
    ]
    samples = pd.DataFrame([s.model_dump() for s in judged], columns=list(Sample.model_fields))
    results = {tag: safe_rate_rule(samples, tag, languages.served, gate) for tag in languages.served}
    trusted = [tag for tag, result in results.items() if result.passed]
    doubted = [f"{language_name(tag)}: {result.reason}" for tag, result in results.items() if not result.passed]
    if not trusted:
        raise MlcError(
            "the base's safe rate on the tuning prompts passes the gate in no language ("
            + "; ".join(doubted)
            + "): name the languages to trust in train.objective.trusted_languages, or name none ([]) and use an"
            " objective that trusts none (name: mlc, refusal_weight: 0)"
        )
    print("\n  ".join(["not trusted:", *doubted]) if doubted else "the base passes in every served language")
    write_samples(paths.trusted_languages_samples, judged)
    evidence = {
        tag: Evidence(value=result.value, bound=result.bound, n=result.n, passed=result.passed)
        for tag, result in results.items()
    }
    return TrustedLanguages(schema_version=TrustedLanguages.VERSION, trusted=trusted, how="measured", evidence=evidence)


def run(
    languages: Languages, setting: tuple[str, ...] | Literal["auto"], evaluate: Evaluate, gate: Gate, paths: Paths
) -> None:
    """Writes ``languages.json``: named languages as they are, or for ``auto`` what is measured.

    ``samples.jsonl`` beside it holds the replies that the measurement rests on, none for named languages.

    Raises:
        MlcError: for ``auto``, the prompts, the base or the judge are missing, or the base passes in no language.
    """
    if setting == "auto":
        trusted = _measured(languages, evaluate, gate, paths)
    else:
        trusted = TrustedLanguages(
            schema_version=TrustedLanguages.VERSION, trusted=list(setting), how="named", evidence={}
        )
        write_jsonl(paths.trusted_languages_samples, [])
    trusted.write(paths.trusted_languages)
    if setting == "auto":
        from mlc.evaluation.sampling import forget

        forget(paths.under_test("base"))
    print(f"trusted ({trusted.how}): {', '.join(trusted.trusted) or 'none'}")
