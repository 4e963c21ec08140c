"""``mlc judge``: how often the configured judges are right, on labelled replies, and what rates become with that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypedDict

from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration, JudgeErrors
from mlc.evaluation.judge_errors import ERRORS, ErrorName, judged, labelled_for, measured, once
from mlc.evaluation.labelled import Labelled, Part, injections
from mlc.evaluation.metrics import Estimate
from mlc.evaluation.samples import read_samples
from mlc.evaluation.statistics import complement, proportion, rogan_gladen
from mlc.judges import SAFE_VERDICTS
from mlc.judges.configured import make_judge
from mlc.languages.tags import language_name
from mlc.paths import Paths, Role
from mlc.settings import Evaluate, Languages
from mlc.text import MISSING, visible, with_interval


def table(calibration: Calibration, missing: Iterable[str] = ()) -> str:
    """A calibration as lines of text, one per language; ``missing`` languages have no labelled replies."""

    def cell(errors: JudgeErrors, name: ErrorName) -> str:
        estimate = errors.get(name)
        return f"{with_interval(estimate) if estimate else MISSING:22}"

    heading = f"{'':16}{'n':>6}  " + "".join(f"{name.replace('_', ' '):22}" for name in ERRORS)
    rows = [*((language_name(tag), errors) for tag, errors in calibration.languages.items()), ("all", calibration.all)]
    body = [f"{name[:16]:16}{row['n']:>6}  " + "".join(cell(row, n) for n in ERRORS).rstrip() for name, row in rows]
    absent = [f"{language_name(tag)[:16]:16}     0  no labelled replies" for tag in missing]
    judge = f"judge {calibration.judge}, version {calibration.version}"
    return "\n".join([judge, heading.rstrip(), *body, *absent])


def check(
    languages: Languages,
    evaluate: Evaluate,
    paths: Paths,
    file: Path | None,
    part: Part | Literal["all"],
    as_json: bool,
) -> None:
    """Measures the configured judges on labelled replies, and writes ``artifacts/judge/calibration.json``.

    ``part`` of the labelled replies, or all of them. A language without any is not in it, and a gate that asks for the
    judge's calibration fails there. Replies that say the same count once.

    Raises:
        MlcError: replies that say the same have different labels; the labelled replies, a model or a key are missing.
    """
    found = [x for x in labelled_for(evaluate, languages, paths, file) if part in ("all", x.part)]
    lines = once(found, str(file or paths.data / "labelled.jsonl"))
    calibration = measured(make_judge(evaluate, languages), lines)
    calibration.write(paths.calibration)
    if as_json:
        print(json.dumps(calibration.content(), ensure_ascii=False))
    else:
        print(table(calibration, [tag for tag in languages.all if tag not in calibration.languages]))
        if copies := len(found) - len(lines):
            print(f"{copies} of {len(found)} labelled replies say the same as another, and count once with it")


def withstand(evaluate: Evaluate, languages: Languages, as_json: bool = False) -> None:
    """Shows how many of the shipped injections leave the configured judges' verdict unsafe, or at least invalid.

    Raises:
        MlcError: one of them is called safe or refused; or a model or a key is missing.
    """
    lines = injections()
    verdicts = Counter[str]()
    fooled: list[Labelled] = []
    for line, judgement in zip(lines, judged(make_judge(evaluate, languages), lines), strict=True):
        verdicts[judgement.verdict] += 1
        if judgement.verdict in SAFE_VERDICTS:
            fooled.append(line)
    withstood = len(lines) - len(fooled)
    if as_json:
        believed = [{"language": line.language, "response": line.response} for line in fooled]
        print(json.dumps({"n": len(lines), "withstood": withstood, "verdicts": verdicts, "fooled": believed}))
    else:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{withstood} of {len(lines)} injections withstood: {counts}")
    if fooled:
        replies = "\n".join(f"  {line.language}: {visible(line.response)[:160]}" for line in fooled)
        raise MlcError(f"the judge was talked into another verdict by {len(fooled)} replies:\n{replies}")


def true_safe_rate(measured: Estimate, errors: JudgeErrors) -> Estimate:
    """A safe rate corrected for the errors of its judge in a language.

    Raises:
        KeyError: the labelled replies have no unsafe, or no safe, ones to a harmful prompt.
        ValueError: the judge is no better than chance.
    """
    return rogan_gladen(measured, complement(errors["false_unsafe"]), complement(errors["false_safe"]))


class SafeRates(TypedDict):
    """A safe rate as measured, and corrected for the judge's errors, or why it is not."""

    measured: Estimate
    corrected: Estimate | None
    why_not: str | None


def show_rates(languages: Languages, role: Role, paths: Paths, as_json: bool = False) -> None:
    """Shows the safe rates of an evaluation as measured, and corrected for the errors of its judge.

    Raises:
        MlcError: there is no evaluation or no calibration, or it is about another judge.
    """
    samples = read_samples(paths.samples(role))
    calibration = Calibration.of(paths)
    if set(zip(samples["judge"], samples["judge_version"], strict=True)) != {calibration.of_judge}:
        raise MlcError(f"{paths.calibration} is about another judge than the samples: run `mlc judge check` again")
    rows: dict[str, SafeRates] = {}
    for tag in languages.all:
        harmful = samples[(samples["language"] == tag) & (samples["intent"] == "harmful")]
        if harmful.empty:
            continue
        rate = proportion(int(harmful["verdict"].isin(SAFE_VERDICTS).sum()), len(harmful))
        rows[tag] = SafeRates(measured=rate, corrected=None, why_not=None)
        try:
            rows[tag]["corrected"] = true_safe_rate(rate, calibration.languages.get(tag, JudgeErrors(n=0)))
        except KeyError:
            rows[tag]["why_not"] = "no labelled replies"
        except ValueError as error:
            rows[tag]["why_not"] = str(error)
    if as_json:
        about = {"model": role, "judge": calibration.judge, "version": calibration.version}
        print(json.dumps({**about, "languages": rows}, ensure_ascii=False))
        return
    print(f"{'':16}{'measured':24}corrected for the judge's errors")
    for tag, row in rows.items():
        corrected = with_interval(row["corrected"]) if row["corrected"] else row["why_not"]
        print(f"{language_name(tag)[:16]:16}{with_interval(row['measured']):24}{corrected}")
