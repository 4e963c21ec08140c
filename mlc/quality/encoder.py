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

    def columns(
        self, texts: Mapping[str, Sequence[str | None]], source: str
    ) -> dict[str, tuple[Floats, npt.NDArray[np.object_]]]:
        """Language -> ``similarity`` and ``retrieved``, for languages other than the source.

        ``similarity`` is the cosine of the text's and its source text's embeddings; fails on: languages that the
        encoder does not know, and negation ("how to" beside "how not to"). ``retrieved`` is whether the text's nearest
        source text among all rows given is its own; fails on: rows that ask nearly the same, so it measures a language
        in a set. Both are null where either text is missing.
        """
        vectors = {tag: self._encode(column) for tag, column in texts.items()}
        if source not in vectors:
            return {}
        sources, result = vectors.pop(source), {}
        known = ~np.isnan(sources[:, 0])
        for tag, embeddings in vectors.items():
            both = known & ~np.isnan(embeddings[:, 0])
            similar = (embeddings * sources).sum(axis=1)
            nearest = np.where(known, np.nan_to_num(embeddings) @ np.nan_to_num(sources).T, -2.0).argmax(axis=1)
            retrieved = (nearest == np.arange(len(embeddings))).astype(object)
            retrieved[~both] = None
            result[tag] = (np.where(both, similar, np.nan).astype(np.float32), retrieved)
        return result

    def _encode(self, texts: Sequence[str | None]) -> Floats:
        """Embeddings of length 1, of shape (texts, dimension); NaN for nulls."""
        nonempty = [n for n, text in enumerate(texts) if text]
        width = self._model.get_embedding_dimension() or 1
        result = np.full((len(texts), width), np.nan, np.float32)
        if nonempty:
            result[nonempty] = self._model.encode(
                [str(texts[n]) for n in nonempty], normalize_embeddings=True, show_progress_bar=False
            )
        return result
