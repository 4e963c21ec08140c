"""Tiny translation models, made on the spot: one of each family, and one of them taught to translate."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

WORDS = {
    "eng_Latn": ["one", "two", "three", "dog", "cat", "house"],
    "swh_Latn": ["moja", "mbili", "tatu", "mbwa", "paka", "nyumba"],
    "spa_Latn": ["uno", "dos", "tres", "perro", "gato", "casa"],
}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def sentence(numbers: Sequence[int], language: str) -> str:
    return " ".join(WORDS[language][n] for n in numbers)


def nllb(folder: Path, steps: int) -> Path:
    """NLLB's architecture and tokenizer, taught ``steps`` steps of word-by-word translation from and to English."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    words = [word for language in WORDS.values() for word in language]
    bpe.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False))
    bpe_model = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in bpe_model["merges"]]
    tokenizer: Any = NllbTokenizer(vocab=bpe_model["vocab"], merges=merges, extra_special_tokens=list(WORDS))
    tokenizer.model_max_length = 64
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(m2m_config(len(tokenizer)))
    rng = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        other, from_english = rng.choice(list(WORDS)[1:]), rng.random() < 0.5
        source, target = ("eng_Latn", other) if from_english else (other, "eng_Latn")
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        numbers = [[rng.randrange(6) for _ in range(rng.randint(1, 3))] for _ in range(32)]
        batch = tokenizer(
            [sentence(n, source) for n in numbers],
            text_target=[sentence(n, target) for n in numbers],
            padding=True,
            return_tensors="pt",
        )
        batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def m2m(folder: Path) -> Path:
    """M2M-100's architecture and tokenizer, with random weights."""
    folder.mkdir()
    pieces = _sentencepiece(folder)
    vocabulary = {piece: i for i, piece in enumerate(SPECIAL + [p for p in pieces if p not in SPECIAL])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer: Any = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    torch.manual_seed(0)
    M2M100ForConditionalGeneration(m2m_config(len(vocabulary) + 108)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def madlad(folder: Path) -> Path:
    """MADLAD-400's architecture, T5, with its way of naming the target language, and random weights."""
    folder.mkdir()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"<2{tag}>", 0.0) for tag in ("en", "sw", "zh_Hant"))]
    pieces += [(piece, -float(i)) for i, piece in enumerate(_sentencepiece(folder)) if piece not in SPECIAL]
    tokenizer: Any = T5Tokenizer(vocab=pieces, extra_ids=0)
    tokenizer.add_tokens(["<2en>", "<2sw>", "<2zh_Hant>"])
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _sentencepiece(folder: Path) -> list[str]:
    """Trains a SentencePiece model on WORDS; returns its pieces."""
    import sentencepiece

    sentences = [sentence(range(6), language) for language in WORDS]
    prefix = str(folder / "sentencepiece.bpe")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20), model_prefix=prefix, vocab_size=50, model_type="bpe", minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def m2m_config(vocabulary: int) -> M2M100Config:
    return M2M100Config(
        vocab_size=vocabulary,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=512,
        init_std=0.12,  # with the usual 0.02, so small a model learns to look at the source much later
        decoder_start_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
