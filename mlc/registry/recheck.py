"""What a verdict rests on, judged and computed again: a file of verdicts can be edited, and its record with it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration
from mlc.evaluation.judge_errors import judged, labelled_for, measured, once
from mlc.evaluation.samples import Sample, read_samples, sample_lines
from mlc.files import JsonFile, JsonPart
from mlc.gates import leakage
from mlc.gates.apply_rules import apply_rules, judge_results
from mlc.gates.licences import licence_results
from mlc.gates.rules import RuleResult
from mlc.judges import Judge, final_verdict
from mlc.judges.configured import make_judge
from mlc.paths import ROLES, Paths
from mlc.registry.verify import Evidence
from mlc.settings import Evaluate, Gate, Languages, Section, Settings
from mlc.text import one_line

# These judge by rules: the same reply has the same verdict every time. Of others a share is judged again.
BY_RULES = frozenset({"embedded", "refusal"})
# Of the verdicts of other judges: a model rounds in another order in another batch, and an endpoint is updated.
DIFFERING = 0.05
AnySection = TypeVar("AnySection", bound=Section)
AT_LEAST = 60  # replies that are judged again, however small the share


def is_by_rules(evaluate: Evaluate) -> bool:
    """Whether the judges that the settings name give the same verdict every time."""
    return all(judge.name in BY_RULES for judge in evaluate.judges)


def rounded(record: JsonFile | JsonPart) -> Any:
    """As JSON, with nine digits: the last ones differ between machines."""
    content = record.content() if isinstance(record, JsonFile) else record.model_dump(mode="json")
    return json.loads(json.dumps(content), parse_float=lambda number: f"{float(number):.9g}")


def differing(samples: Sequence[Sample], judge: Judge) -> list[Sample]:
    """The lines of which the judge says something else now than they hold."""
    differ = []
    for line, judgement in zip(samples, judged(judge, samples), strict=True):
        now = final_verdict(judgement, line.finished, line.only_thinking)
        then = line.verdict, line.response_language, line.in_language
        if then != (now.verdict, now.response_language, now.in_language):
            differ.append(line)
    return differ


def drawn(lines: Sequence[Sample], share: float, least: int) -> list[Sample]:
    """A random share of the lines, at least so many: which, nobody who has edited some can foresee."""
    return random.SystemRandom().sample(lines, min(len(lines), max(least, math.ceil(share * len(lines)))))


def check_judgements(settings: Settings, paths: Paths) -> None:
    """The verdicts in the sample lines of base and candidate are the judge's: all of them where it judges by rules, a
    random share (``register.judged_again``) where it is a model, of which one in twenty may differ.

    Raises:
        MlcError: they are not, or are another judge's; or the judge cannot be used.
    """
    judge, share = make_judge(settings.evaluate, settings.languages), settings.register_.judged_again
    for role in ROLES:
        path, command = paths.samples(role), f"run `mlc evaluate {role}` again"
        lines = sample_lines(path)
        if {(line.judge, line.judge_version) for line in lines} != {(judge.name, judge.version)}:
            raise MlcError(f"{path} was not judged by {judge.name}, version {judge.version}: {command}")
        if is_by_rules(settings.evaluate):
            allowed = 0
        else:
            lines = drawn(lines, share, AT_LEAST)
            allowed = math.floor(DIFFERING * len(lines))
        if len(other := differing(lines, judge)) > allowed:
            raise MlcError(
                f"{path} does not hold the verdicts of {judge.name}: judged again, {len(other)} of {len(lines)} differ,"
                f" such as {other[0].prompt_id!r} in {other[0].language}: {command}"
            )


def check_calibration(settings: Settings, paths: Paths) -> None:
    """The calibration that the gate has read is that of the judge on the labelled replies there are; of a judge that is
    a model, its record alone says so.

    Raises:
        MlcError: it is not.
    """
    if settings.gate.judge is None or not is_by_rules(settings.evaluate):
        return
    labelled = labelled_for(settings.evaluate, settings.languages, paths, None)
    lines = once([line for line in labelled if line.part == "held-out"], "the labelled replies")
    again = measured(make_judge(settings.evaluate, settings.languages), lines)
    if rounded(again) != rounded(Calibration.of(paths)):
        raise MlcError(f"{paths.calibration} is not the judge's on the labelled replies: run `mlc judge check` again")


def rules_on(evidence: Evidence, languages: Languages, gate: Gate) -> list[RuleResult]:
    """The results of a gate's rules on the sample lines of a version, and on the licences that were written down for
    it. Rules about other files (tasks, leakage) are not among them.

    Raises:
        MlcError: the version has no sample lines of its base, as one from before they were kept, or no calibration that
            the gate asks for.
    """
    base, candidate = read_samples(evidence.base_samples, "mlc register"), read_samples(evidence.samples)
    calibration = evidence.calibration() if gate.judge is not None else None
    errors = calibration.languages if calibration is not None and gate.judge and gate.judge.correct else None
    results, _ = apply_rules(base, candidate, languages, gate, errors)
    distinct = leakage.distinct_of_samples(candidate, languages.served, gate.near_duplicate)
    results.append(leakage.near_duplicates(distinct, gate.near_duplicate, gate.minimum_prompts))
    if gate.judge is not None and calibration is not None:
        results += judge_results(candidate, languages.served, gate.judge, calibration)
    return results + licence_results(evidence.verdict().licences, gate)


def evidence_faults(evidence: Evidence) -> list[str]:
    """Where a version's verdict does not follow from its own files: its bounds computed again from the sample lines and
    the settings, and every verdict in the lines judged again where the judge judges by rules and is still the same.

    Nothing for a version from before provenance was recorded.
    """
    provenance = evidence.provenance()
    if provenance is None:
        return []
    try:
        verdict, asked = evidence.verdict(), provenance.stages["gate"].settings
        languages, gate = _section(Languages, asked["languages"]), _section(Gate, asked["gate"])
        evaluate = _section(Evaluate, provenance.stages["evaluate_candidate"].settings["evaluate"])
        results = {(result.rule, result.language): result for result in rules_on(evidence, languages, gate)}
    except (KeyError, MlcError, ValidationError) as error:
        return [f"the verdict cannot be computed again: {one_line(error)}"]
    faults = [] if _section(Gate, verdict.gate) == gate else ["the verdict is of another gate than the gate's record"]
    recorded = {(result.rule, result.language): result for result in verdict.rules}
    for key, result in results.items():
        if key not in recorded or rounded(recorded[key]) != rounded(result):
            faults.append(f"the verdict's {' in '.join(filter(None, key))} does not follow from the sample lines")
    if is_by_rules(evaluate):
        judge = make_judge(evaluate, languages)
        for path in (evidence.base_samples, evidence.samples):
            of_judge = [x for x in sample_lines(path) if (x.judge, x.judge_version) == (judge.name, judge.version)]
            if other := differing(of_judge, judge):
                faults.append(f"{path.name}: judged again, {len(other)} of {len(of_judge)} lines differ")
    return faults


def _section(kind: type[AnySection], value: object) -> AnySection:
    """A part of params.yaml, as a record or a verdict holds it."""
    return kind.model_validate_json(json.dumps(value))


def check_present_gate(evidence: Evidence, settings: Settings, version: str) -> None:
    """A version passes the gate of params.yaml as it is now, on the replies that it was registered for.

    Raises:
        MlcError: it does not, or the gate has a rule that it was never judged by.
    """
    then = evidence.verdict().gate.get("rules")
    for rule in settings.gate.rules:
        if rule.metric == "task_accuracy" and rule.model_dump(mode="json") not in (
            then if isinstance(then, list) else []
        ):
            raise MlcError(f"version {version} was not judged by the present rule on task_accuracy: run `mlc run`")
    failed = [result for result in rules_on(evidence, settings.languages, settings.gate) if not result.passed]
    if failed:
        raise MlcError(
            f"version {version} does not pass the present gate ({len(failed)} rules failed, such as"
            f" {failed[0].sentence}): train another, or commit other rules"
        )
