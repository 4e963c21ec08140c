"""Loading the base or a candidate: full weights, or an adapter over the base."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from mlc.errors import MlcError
from mlc.models import inference
from mlc.text import one_line


def load_model(folder: Path, base: Path, precision: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model ready to generate, on the GPU if there is one, and its tokenizer.

    Args:
        folder: weights or adapter, with tokenizer. base: the base's folder, for an adapter.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        MlcError: the folder does not exist, or does not hold the whole model.
    """
    for needed in (folder, base):
        if not needed.is_dir():
            raise MlcError(
                f"{needed} does not exist: run `mlc {'base' if needed == base else 'train` and `mlc select'}` first"
            )
    disable_progress_bar()
    try:
        model, tokenizer = inference.load(folder, base, precision)
    except (ValueError, OSError) as error:
        raise MlcError(f"{folder} cannot be loaded: {one_line(error)}") from None
    model.to(inference.device())
    return model, tokenizer
