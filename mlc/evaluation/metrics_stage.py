"""The metrics stage: ``metrics.json`` of base and candidate, computed from their sample lines; no model is asked."""

from __future__ import annotations

from mlc.evaluation.summarize import summarize_folder
from mlc.paths import ROLES, Paths
from mlc.settings import Languages


def run(languages: Languages, paths: Paths) -> None:
    """Writes ``metrics.json`` and ``per_language.csv`` beside the sample lines of base and candidate.

    Raises:
        MlcError: sample lines are missing or broken.
    """
    for role in ROLES:
        summarize_folder(paths.evaluation(role), role, languages, f"mlc evaluate {role}")
