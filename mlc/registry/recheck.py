"""What a verdict rests on, judged and computed again: a file of verdicts can be edited, and its record with it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration
from mlc.evaluation.judge_check import labelled_for, measured
from mlc.evaluation.samples import Sample, sample_lines
from mlc.files import JsonFile
from mlc.judges import Judge
from mlc.judges.configured import make_judge
from mlc.paths import ROLES, Paths
from mlc.settings import Evaluate, Settings

# These judge by rules: the same reply has the same verdict every time. Of others a share is judged again.
BY_RULES = frozenset({"embedded", "refusal"})
# Of the verdicts of other judges: a model rounds in another order in another batch, and an endpoint is updated.
DIFFERING = 0.05


def is_by_rules(evaluate: Evaluate) -> bool:
    """Whether the judges that the settings name give the same verdict every time."""
    return all(judge.name in BY_RULES for judge in evaluate.judges)


def rounded(record: JsonFile) -> Any:
    """As JSON, with nine digits: the last ones differ between machines."""
    return json.loads(json.dumps(record.content()), parse_float=lambda number: f"{float(number):.9g}")


def differing(samples: Sequence[Sample], judge: Judge) -> list[Sample]:
    """The lines of which the judge says something else now than they hold."""
    judgements = judge.judge(
        [line.prompt for line in samples],
        [line.response for line in samples],
        [line.language for line in samples],
        [line.intent for line in samples],
    )
    return [
        line
        for line, now in zip(samples, judgements, strict=True)
        if (line.verdict, line.response_language) != (now.verdict, now.response_language)
    ]


def check_judgements(settings: Settings, paths: Paths) -> None:
    """The verdicts in the sample lines of base and candidate are the judge's: all of them where it judges by rules, a
    random share (``register.judged_again``) where it is a model, of which one in twenty may differ.

    Raises:
        MlcError: they are not, or are another judge's; or the judge cannot be used.
    """
    judge, share = make_judge(settings.evaluate), settings.register_.judged_again
    for role in ROLES:
        path, command = paths.samples(role), f"run `mlc evaluate {role}` again"
        lines = sample_lines(path)
        if {(line.judge, line.judge_version) for line in lines} != {(judge.name, judge.version)}:
            raise MlcError(f"{path} was not judged by {judge.name}, version {judge.version}: {command}")
        if is_by_rules(settings.evaluate):
            allowed = 0
        else:
            # Which lines is not to be foreseen by who has edited some.
            lines = random.SystemRandom().sample(lines, min(len(lines), math.ceil(share * len(lines))))
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
    again = measured(make_judge(settings.evaluate), [line for line in labelled if line.part == "held-out"])
    if rounded(again) != rounded(Calibration.of(paths)):
        raise MlcError(f"{paths.calibration} is not the judge's on the labelled replies: run `mlc judge check` again")
