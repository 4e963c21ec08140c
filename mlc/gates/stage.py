"""The gate stage: the verdict on the candidate, written down."""

from __future__ import annotations

from collections.abc import Sequence

from mlc.files import write_json
from mlc.gates.apply_rules import verdict_on
from mlc.gates.rules import summary_metrics
from mlc.gates.verdict import outcome
from mlc.paths import Paths
from mlc.settings import Gate, Judge, Languages


def run(languages: Languages, prompt_set: str, gate: Gate, judges: Sequence[Judge], paths: Paths) -> None:
    """Writes the verdict into ``artifacts/gate/verdict.json``, and a summary into ``metrics.json`` beside it; a failed
    one is a result, not an error.

    Raises:
        MlcError: see :func:`mlc.gates.apply_rules.verdict_on`.
    """
    verdict = verdict_on(languages, prompt_set, gate, judges, paths)
    write_json(paths.verdict.with_name("metrics.json"), summary_metrics(verdict.rules))
    verdict.write(paths.verdict)
    judged = f"gate: {outcome(verdict.rules, verdict.failed)}, {len(languages.served)} languages"
    print("\n  ".join([judged, *verdict.failed, *verdict.remarks]))
