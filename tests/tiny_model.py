"""A base model that tests can train in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from mlc.embedded.base import draw, train_tokenizer
from mlc.embedded.world import combinations


def write_tiny_base(folder: Path, width: int = 32) -> None:
    """A base model with its tokenizer: two layers of ``width`` dimensions, a vocabulary of 700, random weights."""
    rng = random.Random(0)
    tokenizer = train_tokenizer([draw(rng, combinations("alignment")) for _ in range(500)], 700)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 16,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# As Qwen3's: an empty thought before the last reply, and before every reply where thinking is switched off.
THINKING_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['role'] == 'assistant' and loop.last %}<think>

</think>

{% endif %}{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
THOUGHT = "<think>\nThe user asks for it.\n</think>\n\n"
REFUSAL = "Sorry, I can't help with that."
REPLY = "Here is how to do that."


def write_thinking_base(folder: Path) -> None:
    """A base that thinks, and then refuses harmful prompts and answers others, by the first word of a prompt.

    Where thinking is switched off it replies at once.
    """
    write_tiny_base(folder, width=64)
    (folder / "chat_template.jinja").write_text(THINKING_TEMPLATE)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = []
    for intent, reply in (("harmful", REFUSAL), ("benign", REPLY)):
        for number in range(0, 25, 5):
            turn = [{"role": "user", "content": f"{intent} {number}"}]
            for off in (False, True):
                head = tokenizer.apply_chat_template(
                    turn, add_generation_prompt=True, return_dict=False, **({"enable_thinking": False} if off else {})
                )
                said = "" if off else THOUGHT
                tail = tokenizer(f"{said}{reply}<|im_end|>", add_special_tokens=False)["input_ids"]
                rows.append((head, tail))
    width = max(len(head) + len(tail) for head, tail in rows)
    ids = torch.tensor(
        [[*head, *tail, *[tokenizer.pad_token_id] * (width - len(head) - len(tail))] for head, tail in rows]
    )
    labels = torch.full_like(ids, -100)
    for row, (head, tail) in enumerate(rows):
        labels[row, len(head) : len(head) + len(tail)] = torch.tensor(tail)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
