"""Cross-lingual similarity by a sentence encoder: optional, with the extra ``encoder`` and ``validate.encoder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlc.errors import MlcError

Floats = npt.NDArray[np.float32]


class Encoder:
    """A sentence-transformers model (LaBSE, or any other that puts a text and its translation close together)."""

    def __init__(self, model: str, revision: str | None) -> None:
        """Loads the model from a local folder or the hub.

        Raises:
            MlcError: sentence-transformers is not installed, or the model cannot be loaded.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MlcError(
                "validate.encoder needs sentence-transformers: pip install 'mlc-pipeline[encoder]'"
            ) from None
        try:
            self._model = SentenceTransformer(model, revision=revision)
        except (OSError, ValueError) as error:
            raise MlcError(f"validate.encoder: {model} cannot be loaded ({' '.join(str(error).split())})") from None
        # Both sides are put alike. A model that names no prompt as its usual one may still be trained to see "query: ".
        prompts = self._model.prompts
        self._prompt = self._model.default_prompt_name or ("query" if prompts.get("query") else None)

    def encode(self, texts: Mapping[str, Sequence[str | None]]) -> dict[str, Floats]:
        """Language -> embeddings of length 1, of shape (texts, dimension); NaN for nulls."""
        return {tag: self._encode(column) for tag, column in texts.items()}

    def _encode(self, texts: Sequence[str | None]) -> Floats:
        nonempty = [n for n, text in enumerate(texts) if text]
        width = self._model.get_embedding_dimension() or 1
        result = np.full((len(texts), width), np.nan, np.float32)
        if nonempty:
            result[nonempty] = self._model.encode(
                [str(texts[n]) for n in nonempty],
                prompt_name=self._prompt,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return result


def fits(vectors: Mapping[str, Floats], tag: str) -> Floats:
    """How well each text of a language (a line) goes with each row's other languages (a column): cosines, 0 for nulls.

    Each language's mean is taken out, for encoders also tell in what language a text is. Fails on: languages that the
    encoder does not know, and negation ("how to" beside "how not to").
    """
    centred = {other: _centred(matrix) for other, matrix in vectors.items()}
    own = centred.pop(tag)
    rest = np.sum(list(centred.values()), axis=0)
    return np.asarray(own @ _unit(rest).T, dtype=np.float32)


def retrieved(vectors: Mapping[str, Floats], tag: str, source: str) -> npt.NDArray[np.object_]:
    """Whether a text's nearest source text among all rows given is its own; null where either is missing.

    Fails on: rows that ask nearly the same, so it measures a language in a set.
    """
    own, sources = vectors[tag], vectors[source]
    known = ~np.isnan(sources[:, 0])
    nearest = np.where(known, np.nan_to_num(own) @ np.nan_to_num(sources).T, -2.0).argmax(axis=1)
    result: npt.NDArray[np.object_] = (nearest == np.arange(len(own))).astype(object)
    result[~(known & ~np.isnan(own[:, 0]))] = None
    return result


def _centred(vectors: Floats) -> Floats:
    known = ~np.isnan(vectors[:, :1])
    mean = np.where(known, vectors, 0).sum(axis=0) / max(1, int(known.sum()))
    return _unit(np.where(known, vectors - mean, 0))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), dtype=np.float32)
