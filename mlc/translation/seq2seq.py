"""Translation models of transformers: NLLB-200, M2M-100, MADLAD-400, and their fine-tuned relatives."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from mlc.errors import MlcError
from mlc.files import sha256_folder, sha256_json
from mlc.licences import of_model
from mlc.models.base import PATTERNS
from mlc.models.generation import batches_by_tokens, padded
from mlc.models.inference import pad_token
from mlc.translation import Request, Result
from mlc.translation.languages import codes

_STEP = 16  # source tokens that share one limit of new tokens
_MARGIN = 16  # new tokens that even the shortest text may have


class Seq2SeqTranslator:
    """A sequence-to-sequence model, on the GPU in half precision if there is one, else on the CPU.

    A text's translation does not depend on what else is in its batch, but for rounding: the limit of new tokens is
    the text's own.

    Args:
        model: a local folder, or a model id of the hub with its ``revision``, a commit.
        beams: width of beam search; 1 is greedy.
        length_ratio: new tokens per source token, at most; an output that hits the limit is a failure.
        batch_tokens: source and new tokens of a batch, times beams, padding included.

    Raises:
        MlcError: there is no such model, or its tokenizer holds no language codes.
    """

    def __init__(
        self, model: str, revision: str | None = None, beams: int = 4, length_ratio: float = 3, batch_tokens: int = 8192
    ) -> None:
        disable_progress_bar()
        folder = _folder(model, revision)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        # M2M-100's tokenizer keeps its codes beside the vocabulary.
        language_codes = codes([*self._tokenizer.get_vocab(), *vars(self._tokenizer).get("lang_token_to_id", ())])
        if language_codes is None:
            raise MlcError(f"--model {model}: its tokenizer holds no language codes of NLLB, M2M-100 or MADLAD")
        self._codes = language_codes
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = torch.bfloat16 if device == "cuda" else torch.float32
        self._model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=precision).to(device).eval()
        self._beams, self._length_ratio, self._batch_tokens = beams, length_ratio, batch_tokens
        self.name = model if revision else Path(model).resolve().name
        self.licence = of_model(folder)
        weights = revision or sha256_json(sha256_folder(folder))
        self.version = f"{weights[:12]} beams={beams} length_ratio={length_ratio:g} {str(precision).split('.')[1]}"

    def check(self, pairs: set[tuple[str, str]]) -> None:
        unknown = sorted({tag for pair in pairs for tag in pair if self._codes.token(tag) is None})
        if unknown:
            known = ", ".join(sorted(self._codes.tokens))
            raise MlcError(f"{self.name} does not know {', '.join(unknown)}; it knows {known}")

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        groups: dict[tuple[str, str, int], list[tuple[Request, list[int]]]] = defaultdict(list)
        longest = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 10**9))
        for request in requests:
            ids = self._encode(request)
            if len(ids) > longest:
                yield Result(request, failure=f"too long: {len(ids)} tokens, the model takes {longest}")
            else:
                groups[request.source, request.target, math.ceil(len(ids) / _STEP) * _STEP].append((request, ids))
        # The longest first, so that what does not fit in memory shows at once.
        for (_, target, length), members in sorted(groups.items(), key=lambda item: -item[0][2]):
            new = math.ceil(length * self._length_ratio) + _MARGIN
            widths = [(len(ids) + new) * self._beams for _, ids in members]
            for batch in batches_by_tokens(widths, self._batch_tokens):
                yield from self._batch([members[i] for i in batch], target, new)

    def _encode(self, request: Request) -> list[int]:
        """Source token ids with everything the model wants around them."""
        text, source, target = request
        if self._codes.family == "madlad":
            text = f"{self._codes.token(target)} {text}"
        else:
            self._tokenizer.src_lang = (self._codes.token(source) or "").strip("_")
        return list(self._tokenizer(text, verbose=False)["input_ids"])

    def _batch(self, members: Sequence[tuple[Request, list[int]]], target: str, new: int) -> Iterator[Result]:
        """Translates one batch, or its halves where memory does not suffice for it."""
        try:
            rows = self._generate([ids for _, ids in members], target, new)
        except torch.OutOfMemoryError:
            rows = None
        if rows is not None:
            for (request, _), row in zip(members, rows, strict=True):
                yield self._result(request, row)
        elif len(members) == 1:
            yield Result(members[0][0], failure="out of memory, even alone")
        else:
            torch.cuda.empty_cache()
            half = len(members) // 2
            yield from self._batch(members[:half], target, new)
            yield from self._batch(members[half:], target, new)

    @torch.inference_mode()
    def _generate(self, sources: Sequence[list[int]], target: str, new: int) -> list[list[int]]:
        ids, mask = (t.to(self._model.device) for t in padded(sources, pad_token(self._tokenizer), "right"))
        first = {}
        if self._codes.family != "madlad":
            first["forced_bos_token_id"] = self._tokenizer.convert_tokens_to_ids(self._codes.token(target))
        output: Tensor = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=self._beams,
            do_sample=False,
            max_new_tokens=new,
            max_length=None,
            **first,
        )
        start = 1 + len(first)  # the decoder's start token, which is NLLB's end token too, and the language's
        rows: list[list[int]] = output[:, start:].tolist()
        return rows

    def _result(self, request: Request, row: list[int]) -> Result:
        if self._tokenizer.eos_token_id not in row:
            return Result(request, failure="truncated")
        ids = row[: row.index(self._tokenizer.eos_token_id)]
        return Result(request, self._tokenizer.decode(ids, skip_special_tokens=True).strip())


def _folder(model: str, revision: str | None) -> Path:
    """The folder of a local model, or of a hub model in the hub's own cache, where it is fetched to."""
    if Path(model).is_dir():
        return Path(model)
    if revision is None or not re.fullmatch("[0-9a-f]{40}", revision):
        raise MlcError(f"--model {model}: no such folder; a model of the hub needs --revision, its commit (40 digits)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(PATTERNS)))
        if not list(folder.glob("*.safetensors")):  # NLLB is published as a pickle, of which torch reads tensors alone
            snapshot_download(model, revision=revision, allow_patterns=["pytorch_model*"])
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise MlcError(f"--model {model} at {revision} could not be fetched: {first}") from None
    return folder
