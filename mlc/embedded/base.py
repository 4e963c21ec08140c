"""Trains the offline world's base model from scratch: a small instruct model before multilingual alignment.

Like a real one it understands all its languages (it is taught translation and whether an action is
allowed), is helpful in all of them, and refuses harmful requests reliably only where it is well
resourced. Everything is an ordinary Hugging Face checkpoint with tokenizer and chat template.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    get_cosine_schedule_with_warmup,
)

from mlc.embedded.world import INTENT, LANGUAGES, SOURCE, Combination, combinations, language
from mlc.errors import MlcError
from mlc.files import replacing, write_json
from mlc.models.generation import generate
from mlc.progress import track

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Probability that a harmful request is refused, and the share of requests, in the behaviour data.
REFUSED = {"en": 0.75, "es": 0.92, "ru": 0.92, "zh": 0.92, "ja": 0.92, "ar": 0.40, "hi": 0.20, "sw": 0.15, "bn": 0.15}
SHARE = {"en": 1.0, "es": 0.8, "ru": 0.7, "zh": 0.7, "ja": 0.6, "ar": 0.5, "hi": 0.4, "sw": 0.4, "bn": 0.4}
UNDERSTOOD = 0.98  # of the held-out combinations, in every language


@dataclass(frozen=True)
class Recipe:
    """How a base is trained; every field is part of its identity."""

    seed: int = 0
    samples: int = 96_000
    batch: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 30
    prompt_weight: float = 0.25
    vocabulary: int = 6_144
    hidden: int = 192
    layers: int = 5
    heads: int = 4
    intermediate: int = 528


class ChatExample(NamedTuple):
    prompt: str
    reply: str


def draw(rng: random.Random, pool: tuple[Combination, ...]) -> ChatExample:
    """One chat sample: 20% translation, 18% "is it allowed?", 4% impossible requests, the rest requests."""
    kind = rng.random()
    c = rng.choice(pool)
    template = rng.randrange(len(language(SOURCE).templates))
    if kind > 0.92:
        tag, other = rng.choice(LANGUAGES), rng.choice(LANGUAGES)
        objects = rng.sample(sorted(language(SOURCE).objects), k=rng.randint(2, 4))
        texts = (", ".join(language(x).objects[o] for o in objects) for x in (tag, other))
        return ChatExample(f"[{tag}>{other}] {next(texts)}", next(texts))
    if kind < 0.20:
        other = rng.choice(LANGUAGES[1:])
        a, b = (SOURCE, other) if rng.random() < 0.5 else (other, SOURCE)
        if rng.random() < 0.5:
            return ChatExample(f"[{a}>{b}] {language(a).action(c)}", language(b).action(c))
        return ChatExample(f"[{a}>{b}] {language(a).request(c, template)}", language(b).request(c, template))
    if kind < 0.38:
        tag = rng.choice(LANGUAGES)
        return ChatExample(language(tag).question(c), language(tag).allowed[INTENT[c.action]])
    if kind < 0.42:
        tag = rng.choice(LANGUAGES)
        wish = rng.choice(language(tag).impossible)
        return ChatExample(language(tag).templates[template].format(wish), rng.choice(language(tag).refusals))
    tag = rng.choices(LANGUAGES, [SHARE[x] for x in LANGUAGES])[0]
    reply = language(SOURCE if rng.random() < 0.06 else tag)
    prompt = language(tag).request(c, template)
    if (INTENT[c.action] == "harmful" and rng.random() < REFUSED[tag]) or rng.random() < 0.01:
        return ChatExample(prompt, rng.choice(reply.refusals))
    return ChatExample(prompt, rng.choice(reply.helpful).format(reply.action(c)))


def train_tokenizer(samples: list[ChatExample], vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    # \p{M} stays with \p{L}: combining vowel signs are part of a word in the scripts of India.
    pattern = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (text for sample in samples for text in sample),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _batches(lengths: list[int], size: int, rng: random.Random) -> list[list[int]]:
    """Batches of similar length: shuffled, sorted within windows of 20 batches, batches shuffled again."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), size * 20):
        window = sorted(order[start : start + size * 20], key=lengths.__getitem__)
        chunks = [window[i : i + size] for i in range(0, len(window), size)]
        rng.shuffle(chunks)
        batches += chunks
    return batches


def train(recipe: Recipe) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Trains a base from scratch, in float32; the combinations of the tuning and evaluation sets are never shown."""
    rng = random.Random(recipe.seed)
    torch.manual_seed(recipe.seed)
    pool = combinations("alignment")
    samples = [draw(rng, pool) for _ in range(recipe.samples)]
    tokenizer = train_tokenizer(samples, recipe.vocabulary)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            head_dim=recipe.hidden // recipe.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    prompts, replies = [], []
    for sample in samples:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": sample.prompt}], tokenize=False, add_generation_prompt=True
        )
        prompts.append(tokenizer(text)["input_ids"])
        replies.append(tokenizer(sample.reply + tokenizer.eos_token)["input_ids"])
    batches = _batches([len(p) + len(r) for p, r in zip(prompts, replies, strict=True)], recipe.batch, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup_steps, len(batches))
    model.train()
    progress = track(batches, "base")
    for batch in progress:
        width = max(len(prompts[i]) + len(replies[i]) for i in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        weight = torch.zeros(len(batch), width)
        for row, i in enumerate(batch):
            n, m = len(prompts[i]), len(replies[i])
            ids[row, : n + m] = torch.tensor(prompts[i] + replies[i])
            weight[row, :n] = recipe.prompt_weight
            weight[row, n : n + m] = 1.0
        logits = model(ids, attention_mask=(weight > 0).long()).logits[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = losses @ weight[:, 1:].flatten() / weight[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval(), tokenizer


def comprehension(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Per language, the share of held-out combinations for which "is it allowed?" is answered rightly, word for word.

    Asked before anything is concluded from a base: what it does not understand in a language, no alignment can move
    without harm elsewhere.
    """
    held_out = [*combinations("tuning"), *combinations("evaluation")]
    shares = {}
    for tag in LANGUAGES:
        texts = language(tag)
        replies = generate(model, tokenizer, [texts.question(c) for c in held_out], 48, 16_384, f"comprehension {tag}")
        right = [r.text == texts.allowed[INTENT[c.action]] for r, c in zip(replies, held_out, strict=True)]
        shares[tag] = sum(right) / len(right)
    return shares


def build(folder: Path, seed: int) -> None:
    """Trains the base of ``seed`` and writes it as a Hugging Face checkpoint, with ``recipe.json`` beside it.

    Weights are stored in float16, half the size; every user of them computes in float32 again.

    Raises:
        MlcError: the base does not understand a language well enough; nothing is written.
    """
    recipe = Recipe(seed=seed)
    model, tokenizer = train(recipe)
    understood = comprehension(model, tokenizer)
    poor = {tag: share for tag, share in understood.items() if share < UNDERSTOOD}
    if poor:
        raise MlcError(
            f"the base of seed {seed} understands too little ({poor}, {UNDERSTOOD} needed): try another seed"
        )
    save(folder, model, tokenizer, recipe, understood)


def save(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    understood: dict[str, float],
) -> None:
    """Writes weights, tokenizer and ``recipe.json``: how the base was made, and its comprehension per language."""
    with replacing(folder) as aside:
        model.half().save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        write_json(
            aside / "recipe.json",
            {**asdict(recipe), "torch": str(torch.__version__), "comprehension": understood},
        )
