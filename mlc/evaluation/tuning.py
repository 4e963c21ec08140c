"""The evaluate_tuning stage: the base and the candidates on the tuning prompts, so that one of them can be chosen.

Where there is one candidate there is nothing to choose, and nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc.errors import MlcError
from mlc.evaluation.samples import Sample, sample_lines, write_samples
from mlc.evaluation.stage import forget, sample
from mlc.files import replacing
from mlc.paths import Paths, Subject
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Evaluate, Languages


def run(languages: Languages, evaluate: Evaluate, paths: Paths) -> None:
    """Writes ``base.jsonl`` and a ``step-N.jsonl`` per candidate into ``artifacts/tuning``: sample lines in the served
    languages. What the trust stage has asked the base is not asked again. A killed run goes on where it was.

    Raises:
        MlcError: there is no candidate, prompts or judge are missing, or the trust stage's lines are another base's.
    """
    steps = paths.candidate_steps()
    with replacing(paths.tuning) as aside:
        aside.mkdir()
        if len(steps) < 2:
            write_samples(aside / "base.jsonl", [])  # DVC warns of an output that is an empty folder
            print("one candidate: nothing to choose")
            return
        rows = read_prompts(paths.prompts / "tuning.jsonl", made_by="mlc validate")
        asked = [(row, tag) for row in rows for tag in languages.served if tag in row.prompts]
        base = paths.subject("base")
        subjects = [
            Subject(folder.name, "candidate", folder, paths.base, paths.partial(folder.name))
            for folder in map(paths.candidate, steps)
        ]
        write_samples(aside / "base.jsonl", _of_base(asked, evaluate, base, paths))
        for subject in subjects:
            write_samples(aside / f"{subject.name}.jsonl", sample(asked, evaluate, subject))
            print(f"{subject.name}: {len(asked)} replies to the tuning prompts", flush=True)
    for subject in (base, *subjects):
        forget(subject)


def _of_base(asked: Sequence[tuple[PromptRow, str]], evaluate: Evaluate, base: Subject, paths: Paths) -> list[Sample]:
    """The base's lines: those that the trust stage has, and the rest."""
    path = paths.trust_samples
    known = {(s.prompt_id, s.language, s.prompt): s for s in (sample_lines(path) if path.exists() else [])}
    keys = [(row.id, tag, row.prompts[tag]) for row, tag in asked]
    rest = [ask for ask, key in zip(asked, keys, strict=True) if key not in known]
    found = iter(sample(rest, evaluate, base))
    lines = [known[key] if key in known else next(found) for key in keys]
    if len({(line.model, line.judge, line.judge_version) for line in lines}) > 1:
        raise MlcError(f"{path} is about another base or judge: run `mlc trust` again")
    return lines
