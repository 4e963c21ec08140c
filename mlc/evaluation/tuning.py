"""The evaluate_tuning stage: the base and the candidates on the tuning prompts, so that one of them can be chosen.

Where there is one candidate there is nothing to choose, and nothing is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc.errors import MlcError
from mlc.evaluation.samples import Sample, sample_lines, write_samples
from mlc.files import replacing
from mlc.paths import ModelUnderTest, Paths
from mlc.prompts.schema import read_prompts
from mlc.settings import Evaluate, Languages

if TYPE_CHECKING:
    from mlc.evaluation.sampling import PromptLanguagePairs


def run(languages: Languages, evaluate: Evaluate, paths: Paths) -> None:
    """Writes ``base.jsonl`` and a ``step-N.jsonl`` per candidate into ``artifacts/tuning``: sample lines in the served
    languages. What the trusted_languages stage has asked the base is not asked again. A killed run goes on where it
    was.

    Raises:
        MlcError: there is no candidate, prompts or judge are missing, or the other stage's lines are another base's.
    """
    steps = paths.candidate_steps()
    with replacing(paths.tuning) as aside:
        aside.mkdir()
        if len(steps) < 2:
            write_samples(aside / "base.jsonl", [])  # DVC warns of an output that is an empty folder
            print("one candidate: nothing to choose")
            return
        # Not before: torch comes with it, and takes seconds to import.
        from mlc.evaluation.sampling import forget, sample

        rows = read_prompts(paths.prompts / "tuning.jsonl", made_by="mlc validate")
        pairs = [(row, tag) for row in rows for tag in languages.served if tag in row.prompts]
        base = paths.under_test("base")
        models = [
            ModelUnderTest(folder.name, "candidate", folder, paths.base, paths.partial(folder.name))
            for folder in map(paths.candidate, steps)
        ]
        write_samples(aside / "base.jsonl", _of_base(pairs, evaluate, base, languages, paths))
        for model in models:
            write_samples(aside / f"{model.name}.jsonl", sample(pairs, evaluate, model, languages))
            print(f"{model.name}: {len(pairs)} replies to the tuning prompts", flush=True)
    for model in (base, *models):
        forget(model)


def _of_base(
    pairs: PromptLanguagePairs, evaluate: Evaluate, base: ModelUnderTest, languages: Languages, paths: Paths
) -> list[Sample]:
    """The base's lines: those that the trusted_languages stage has, and the rest."""
    from mlc.evaluation.sampling import sample

    path = paths.trusted_languages_samples
    known = {(s.prompt_id, s.language, s.prompt): s for s in (sample_lines(path) if path.exists() else [])}
    keys = [(row.id, tag, row.prompts[tag]) for row, tag in pairs]
    rest = iter(sample([p for p, key in zip(pairs, keys, strict=True) if key not in known], evaluate, base, languages))
    lines = [known[key] if key in known else next(rest) for key in keys]
    if len({(line.model, line.judge, line.judge_version) for line in lines}) > 1:
        raise MlcError(f"{path} is about another base or judge: run `mlc trusted-languages` again")
    return lines
