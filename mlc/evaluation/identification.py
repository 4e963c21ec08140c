"""How well language identification does on texts whose language is known, which the project's clean prompts are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import NotRequired

from typing_extensions import TypedDict

from mlc.evaluation.metrics import Estimate
from mlc.evaluation.statistics import proportion
from mlc.languages.check import RELATED, LanguageCheck
from mlc.languages.identify import nearness

MOST = 200  # texts per language that are looked at: a bound hardly moves after that, and this is done before each run


class Identification(TypedDict):
    """On a language's own texts. ``known``: some identifier knows the language; ``told``: it can be said whether they
    are in it; ``right``: of those, they are, which is missing where nothing can be said; ``wrong``: of all, they are
    surely in another language.

    ``other_taken_for_it``: of the texts of other languages of which it can be said whether they are in it, they are.
    Missing where it was not measured, or there are none.
    """

    known: bool
    told: Estimate
    right: NotRequired[Estimate]
    wrong: Estimate
    other_taken_for_it: NotRequired[Estimate]


def measured(
    texts: Mapping[str, Sequence[str]], languages: Sequence[str], check: LanguageCheck, others: bool = False
) -> dict[str, Identification]:
    """Identification in each of the ``languages`` that has texts, with exact 95% intervals.

    Args:
        texts: clean texts by language.
        languages: those to measure in.
        check: what identifies.
        others: whether texts of other languages are asked about too; of those that are no relatives, in turn.
    """
    found = {}
    for tag in languages:
        own = _spread(texts.get(tag, ()))
        if not own:
            continue
        answers = [check(text, tag).answer for text in own]
        told = len(answers) - answers.count("cannot say")
        of_language = Identification(
            known=check.covers(tag),
            told=proportion(told, len(own)),
            wrong=proportion(answers.count("no"), len(own)),
        )
        if told:
            of_language["right"] = proportion(answers.count("yes"), told)
        if others:
            unlike = [check(text, tag).answer for text in islice(_others(texts, tag), MOST)]
            if known := len(unlike) - unlike.count("cannot say"):
                of_language["other_taken_for_it"] = proportion(unlike.count("yes"), known)
        found[tag] = of_language
    return found


def _spread(texts: Sequence[str]) -> Sequence[str]:
    """At most ``MOST`` of the texts, from all over them."""
    return texts if len(texts) <= MOST else [texts[i * len(texts) // MOST] for i in range(MOST)]


def _others(texts: Mapping[str, Sequence[str]], tag: str) -> Iterator[str]:
    """Texts of languages that are no relatives of ``tag``, one of each in turn."""
    iterators = [iter(_spread(texts[other])) for other in texts if nearness(tag, other) > RELATED]
    open_iterators = cycle(iterators)
    for iterator in islice(open_iterators, MOST * len(iterators)):
        text = next(iterator, None)
        if text is not None:
            yield text
