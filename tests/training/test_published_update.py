"""Eight optimizer steps of DPO with the published objective, against a rendering of the published update by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlc.prompts.schema import PromptRow

from .test_trainers import LANGUAGES, trainer

STEPS, EVERY, WEIGHT, TAU, WIDTH, BETA, RATE, DECAY, SEED = 8, 2, 0.8, 0.2, 8, 0.1, 1e-3, 0.1, 3


def chat(tokenizer: Any, prompt: str, reply: str | None = None) -> list[int]:
    turns = [{"role": "user", "content": prompt}]
    turns += [] if reply is None else [{"role": "assistant", "content": reply}]
    ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=reply is None, return_dict=False)
    return ids


def log_probability(model: Any, tokenizer: Any, prompt: str, reply: str) -> Tensor:
    """Of the reply's tokens, summed."""
    start, ids = len(chat(tokenizer, prompt)), chat(tokenizer, prompt, reply)
    log_probs = model(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1)
    return log_probs.gather(-1, torch.tensor(ids[start:])[:, None]).sum()


def dpo(model: Any, reference: Any, tokenizer: Any, rows: list[PromptRow]) -> Tensor:
    losses = []
    for row in rows:
        ratios = []
        for reply in (str(row.chosen), str(row.rejected)):
            with torch.no_grad():
                before = log_probability(reference, tokenizer, row.prompts["en"], reply)
            ratios.append(log_probability(model, tokenizer, row.prompts["en"], reply) - before)
        losses.append(-F.logsigmoid(BETA * (ratios[0] - ratios[1])))
    return torch.stack(losses).mean()


def consistency(model: Any, head: nn.Linear, tokenizer: Any, rows: list[PromptRow]) -> Tensor:
    """arXiv 2602.16660, section 3, as the authors' code has it: singular values over the largest, detached."""
    losses = []
    for row in rows:
        last = [
            model(torch.tensor([chat(tokenizer, row.prompts[tag])]), output_hidden_states=True).hidden_states[-1][0, -1]
            for tag in LANGUAGES
        ]
        values = torch.linalg.svdvals(F.normalize(head(torch.stack(last)), dim=-1))
        losses.append(-(values / (values[0].detach() * TAU)).log_softmax(0)[0])
    return torch.stack(losses).mean()


def test_eight_steps_are_the_published_update(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    """Loss, gradient norm and weights at every step: the term on steps 0, 2, 4 and 6, and a head that rests between.

    Momentum and weight decay are on, either of which would move a head whose gradient is zero.
    """
    rows = alignment_rows[:4]
    ours = trainer(
        "dpo", tiny_base, rows, tmp_path, max_steps=STEPS, mlc_every=EVERY, mlc_weight=WEIGHT, mlc_temperature=TAU,
        mlc_projection=WIDTH, beta=BETA, learning_rate=RATE, weight_decay=DECAY, lr_scheduler_type="constant",
    )  # fmt: skip
    ours.train()
    logged = [entry for entry in ours.state.log_history if "loss" in entry]

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model, reference = (AutoModelForCausalLM.from_pretrained(tiny_base) for _ in range(2))
    torch.manual_seed(SEED)
    model.mlc_head = head = nn.Linear(model.config.hidden_size, WIDTH)
    norms = ("norm", "bias")  # which transformers' optimizer does not decay
    decayed = {n: p for n, p in model.named_parameters() if not any(word in n for word in norms)}
    rest = [p for n, p in model.named_parameters() if n not in decayed]
    optimizer = torch.optim.AdamW(
        [{"params": list(decayed.values()), "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}], lr=RATE
    )
    for step in range(STEPS):
        loss = dpo(model, reference, tokenizer, rows)
        if due := step % EVERY == 0:
            term = consistency(model, head, tokenizer, rows)
            loss = loss + WEIGHT * term
            assert logged[step]["mlc/loss"] == pytest.approx(term.item(), rel=1e-4)
        assert ("mlc/loss" in logged[step]) == due
        assert logged[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert logged[step]["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        before = head.weight.detach().clone()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert torch.equal(head.weight, before) != due
    expected = model.state_dict()
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-3, msg=name)
