"""Writes the embedded world's prompt sets: alignment, tuning and evaluation, with no combination or template shared."""

from __future__ import annotations

import random
from pathlib import Path

from mlc.embedded.world import CATEGORY, INTENT, LANGUAGES, SOURCE, TEMPLATES, Split, combinations, language
from mlc.prompts.schema import PromptRow, Provenance, write_prompts

PROVENANCE = Provenance(translator="mlc.embedded.world", version="1")


def rows(split: Split) -> list[PromptRow]:
    """The rows of a set, one template per combination.

    Alignment rows carry an English preference pair: a refusal is chosen for a harmful request and rejected for a benign
    one. Benign rows of the other sets carry a reference reply in every language, for perplexity.
    """
    rng = random.Random(f"prompts {split}")
    source = language(SOURCE)
    result = []
    for c in combinations(split):
        template, helpful = rng.choice(TEMPLATES[split]), rng.randrange(len(source.helpful))
        answer = source.helpful[helpful].format(source.action(c))
        pair = (
            (rng.choice(source.refusals), answer)
            if INTENT[c.action] == "harmful"
            else (answer, rng.choice(source.refusals))
        )
        texts = {tag: language(tag) for tag in LANGUAGES}
        references = {tag: t.helpful[helpful].format(t.action(c)) for tag, t in texts.items()}
        result.append(
            PromptRow(
                id=f"{c.action}-{c.object}-{template}",
                source="embedded",
                category=CATEGORY[c.action],
                intent=INTENT[c.action],
                prompts={tag: t.request(c, template) for tag, t in texts.items()},
                chosen=pair[0] if split == "alignment" else None,
                rejected=pair[1] if split == "alignment" else None,
                references=references if split != "alignment" and INTENT[c.action] == "benign" else {},
                provenance=dict.fromkeys(LANGUAGES, PROVENANCE),
            )
        )
    return result


def write(folder: Path) -> None:
    """Writes ``alignment.jsonl``, ``tuning.jsonl`` and ``evaluation.jsonl`` to ``folder``."""
    for split in TEMPLATES:
        write_prompts(folder / f"{split}.jsonl", rows(split))
