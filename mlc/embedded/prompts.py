"""Writes the embedded world's prompt sets: alignment, tuning and evaluation, with no combination or template shared."""

from __future__ import annotations

import random
from pathlib import Path

from mlc.embedded.world import CATEGORY, INTENT, LANGUAGES, SOURCE, TEMPLATES, Split, combinations, language
from mlc.prompts.changing import changing
from mlc.prompts.schema import PromptRow, Provenance, write_prompts

# More than one for tuning, which has few combinations left: a hundred harmful prompts are what the gate asks for.
TEMPLATES_PER_COMBINATION: dict[Split, int] = {"alignment": 1, "tuning": 2, "evaluation": 1}

PROVENANCE = Provenance(translator="mlc.embedded.world", version="1")


def rows(split: Split) -> list[PromptRow]:
    """The rows of a set, with one template per combination, in tuning with two.

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
        choice = TEMPLATES[split]
        for n in range(TEMPLATES_PER_COMBINATION[split]):
            t = choice[(choice.index(template) + n) % len(choice)]
            result.append(
                PromptRow(
                    id=f"{c.action}-{c.object}-{t}",
                    source="embedded",
                    category=CATEGORY[c.action],
                    intent=INTENT[c.action],
                    prompts={tag: text.request(c, t) for tag, text in texts.items()},
                    chosen=pair[0] if split == "alignment" else None,
                    rejected=pair[1] if split == "alignment" else None,
                    references=references if split != "alignment" and INTENT[c.action] == "benign" else {},
                    provenance=dict.fromkeys(LANGUAGES, PROVENANCE),
                )
            )
    return result


def write(folder: Path) -> None:
    """Writes ``alignment.jsonl``, ``tuning.jsonl`` and ``evaluation.jsonl`` to ``folder``."""
    with changing(folder):
        for split in TEMPLATES:
            write_prompts(folder / f"{split}.jsonl", rows(split))
