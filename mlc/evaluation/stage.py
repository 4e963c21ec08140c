"""The evaluate stages: the replies of the base or the candidate to the evaluation prompts, judged."""

from __future__ import annotations

from mlc.evaluation.sampling import sample_prompt_set
from mlc.paths import Paths, Role
from mlc.settings import Evaluate, Languages


def run(languages: Languages, evaluate: Evaluate, role: Role, paths: Paths) -> None:
    """Writes ``samples.jsonl`` of the base or the candidate into ``artifacts/evaluation``.

    Raises:
        MlcError: see :func:`mlc.evaluation.sampling.sample_prompt_set`.
    """
    prompts = paths.prompts / f"{evaluate.prompts}.jsonl"
    sample_prompt_set(paths.under_test(role), prompts, languages, evaluate, paths.samples(role))
