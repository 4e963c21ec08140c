"""Does the evidence belong together: samples with their model and prompts, a verdict with its model and samples?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.files import sha256
from mlc.gates.verdict import Verdict
from mlc.models.manifest import Manifest
from mlc.models.weights import weights_id
from mlc.paths import ROLES, Paths
from mlc.prompts.schema import read_prompts


def samples_of_model(samples: Path, weights: Path, made_by: str) -> pd.DataFrame:
    """The sample lines of a file, which have to be of the model in the folder ``weights``.

    Raises:
        MlcError: they are missing, broken, or another model's; ``made_by`` is the command that makes them.
    """
    frame = read_samples(samples, made_by)
    if not weights.is_dir() or set(frame["model"]) != {weights_id(weights)}:
        raise MlcError(f"{samples} was not made with the model in {weights}: run `{made_by}`")
    return frame


def check_prompts(samples: pd.DataFrame, folder: Path, prompts: Path, served: Sequence[str], commands: str) -> None:
    """The samples of ``folder`` answer the prompts as they are now, all of them and no others.

    Raises:
        MlcError: they do not; ``commands`` make them again.
    """
    rows = read_prompts(prompts, made_by="mlc validate")
    wanted = {(row.id, tag, text, row.intent) for row in rows for tag, text in row.prompts.items() if tag in served}
    fields = samples.loc[samples["language"].isin(served), ["prompt_id", "language", "prompt", "intent"]]
    differing = wanted ^ set(fields.itertuples(index=False, name=None))
    if differing:
        raise MlcError(
            f"{folder} does not answer the prompts in {prompts} ({len(differing)} differ, such as "
            f"{min(differing)[0]!r} in {min(differing)[1]}): run {commands}"
        )


def check_verdict(verdict: Verdict, manifest: Manifest, paths: Paths) -> None:
    """The verdict is about the candidate of this manifest, and about the samples that lie in ``artifacts``.

    Raises:
        MlcError: it is about another model, or other samples.
    """
    if verdict.manifest != manifest.digest:
        raise MlcError(f"{paths.verdict} is about another model than {paths.model}: run `mlc evaluate` and `mlc gate`")
    for role in ROLES:
        samples = paths.samples(role)
        if not samples.exists() or sha256(samples) != verdict.samples[role]:
            raise MlcError(f"{samples} is not what {paths.verdict} judged: run `mlc gate` again")
