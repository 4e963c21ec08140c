"""Is this text in this language? One answer for judges, metrics, the gate and chat: yes, no, or that it cannot be said.

Identifiers err most on short texts, on relatives, and on languages that they do not know. So only those languages are
weighed that are plausible here, which are those of the project and English; a relative as near as Croatian to Serbian
is the same language; and where the evidence is thin or contradicts itself, nothing is claimed. docs/languages.md shows
how often each answer is right, in which language.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Literal, NamedTuple, Protocol, Self

from mlc.files import sha256
from mlc.languages import evidence, identifiers
from mlc.languages.answer import Heard
from mlc.languages.identifiers import Guesses, Identifier
from mlc.languages.identify import any_script_share, nearness, same_language, script_known, subtag

# Of an identifier's label, beside the language asked about: is it that one, another plausible one, a relative of it?
Kind = Literal["own", "plausible", "related", "unexpected"]
VERSION = "1"  # of these rules: a judge that asks them is another one when they change

ENOUGH = 10  # weight of words (mlc.languages.evidence) below which nothing is said
OTHER_SCRIPT = 0.05  # share of the letters in the language's scripts, below which a text is in another
CERTAIN = 0.9  # probability by the first identifier alone, from which on no other is asked
SURE = 0.8  # probability of the language among the plausible ones, from which on it is yes
LIKELY = 0.5  # of the probability of the likeliest language that is not plausible, what the language must have for yes
OTHER = 0.6  # mean probability of another language, from which on it is no; of one that is not plausible, a little more
OTHER_UNEXPECTED = 0.8
OTHER_UNCOVERED = 0.9  # where no identifier knows the language asked about
LEAST = 0.02  # mean probability of the language for yes
HARDLY = 0.001  # probability that counts for nothing
RULED_OUT = 0.05  # probability of the language, up to which it may be no
RELATED = 20  # distance up to which relatives are mistaken for each other: neither is evidence against the other


class Weighed(NamedTuple):
    """Mean probabilities: of the language, of the other plausible ones, and of the likeliest that is not plausible."""

    own: float
    plausible: float
    unexpected: float


class LanguageSettings(Protocol):
    """What of params.yaml decides it."""

    @property
    def all(self) -> tuple[str, ...]: ...
    @property
    def unidentified(self) -> tuple[str, ...]: ...
    @property
    def identification_model(self) -> str | None: ...
    @property
    def identification_revision(self) -> str | None: ...


class LanguageCheck:
    """Says whether texts are in a language.

    Args:
        plausible: the languages in which texts may well be, beside the one asked about and English.
        unidentified: languages about which nothing is said.
        model: a further identifier, where one is named: a file, or a model of the hub at ``revision``.

    Raises:
        MlcError: the further identifier cannot be had.
    """

    def __init__(
        self,
        plausible: Iterable[str] = (),
        unidentified: Iterable[str] = (),
        model: str | None = None,
        revision: str | None = None,
    ) -> None:
        self._plausible = tuple(dict.fromkeys((*plausible, "en")))
        self._unidentified = frozenset(unidentified)
        self._further = [] if model is None else [identifiers.named(model, revision)]
        self.version = VERSION if model is None else f"{VERSION}+{_digest(model, revision)}"
        self._kinds: dict[tuple[str, str], Kind] = {}

    @classmethod
    def of(cls, languages: LanguageSettings) -> Self:
        """As params.yaml has it.

        Raises:
            MlcError: the identifier that it names cannot be had.
        """
        model, revision = languages.identification_model, languages.identification_revision
        return cls(languages.all, languages.unidentified, model, revision)

    @cached_property
    def _identifiers(self) -> list[Identifier]:
        """Those that come with mlc are loaded when first asked: many a check never is."""
        return [identifiers.first(), identifiers.second(), *self._further]

    def covers(self, language: str) -> bool:
        """Whether any identifier knows the language."""
        return any(_knows(identifier, language) for identifier in self._identifiers)

    def __call__(self, text: str, language: str) -> Heard:
        """Whether ``text`` is in ``language``, a BCP-47 tag; its script counts where it names one.

        *no* is said of a text in another script than any of the language's, and where the identifiers agree on another
        language that is no relative. *yes* where the language is likely among the plausible ones, and no language that
        is not plausible is much likelier. Of a few words, code, numbers and names, neither.
        """
        if language in self._unidentified:
            return Heard("und", "cannot say")
        prose = evidence.prose(text)
        words = evidence.words_of(prose)
        if evidence.weight(words) < ENOUGH:
            return Heard("und", "cannot say")
        if script_known(language) and any_script_share(" ".join(words), language) < OTHER_SCRIPT:
            found = subtag(identifiers.first().likeliest(prose)[0])
            return Heard("und" if same_language(language, found) else found, "no")
        return self._identified(prose, language)

    def _identified(self, prose: str, language: str) -> Heard:
        label, probability = identifiers.first().likeliest(prose)
        if probability >= CERTAIN and self._kind(language, label) == "own":
            return Heard(subtag(language), "yes")
        guesses = [_likely(identifier.guesses(prose)) for identifier in self._identifiers]
        known = [each for each, one in zip(guesses, self._identifiers, strict=True) if _knows(one, language)]
        weighed = self._weighed(known, language)
        if weighed.own >= LEAST and weighed.own >= SURE * (weighed.own + weighed.plausible):
            if weighed.own >= LIKELY * weighed.unexpected:
                return Heard(subtag(language), "yes")
        elif weighed.own <= RULED_OUT and (other := self._surely_other(guesses, language, covered=bool(known))):
            return Heard(other, "no")
        return Heard("und", "cannot say")

    def _weighed(self, known: Sequence[Guesses], language: str) -> Weighed:
        """Probabilities as means over the identifiers that know the language."""
        own, plausible, unexpected = 0.0, 0.0, defaultdict[str, float](float)
        for guesses in known:
            for label, probability in guesses.items():
                kind = self._kind(language, label)
                if kind == "own":
                    own += probability / len(known)
                elif kind == "plausible":
                    plausible += probability / len(known)
                elif kind == "unexpected":
                    unexpected[subtag(label)] += probability / len(known)
        return Weighed(own, plausible, max(unexpected.values(), default=0.0))

    def _surely_other(self, guesses: Sequence[Guesses], language: str, covered: bool) -> str | None:
        """The language that the identifiers take the text for, where that is surely not the one asked about.

        Of a plausible language those that know it have a say. Of another one all of them, and where none knows the
        language asked about, for it may be a relative of the one found. Relatives of the found one count with it: a
        Norwegian text is surely not English, whichever Norwegian it is.
        """
        for label in dict.fromkeys(next(iter(each)) for each in guesses if each):
            expected = self._kind(language, label) == "plausible"
            if _nearness(language, label) <= RELATED or not (expected or covered):
                continue
            asked = [
                each
                for each, identifier in zip(guesses, self._identifiers, strict=True)
                if not (expected and covered) or _knows(identifier, label)
            ]
            mass = sum(p for each in asked for other, p in each.items() if _nearness(label, other) <= RELATED)
            if mass / len(asked) >= (OTHER_UNCOVERED if not covered else OTHER if expected else OTHER_UNEXPECTED):
                return subtag(label)
        return None

    def _kind(self, language: str, label: str) -> Kind:
        key = language, label
        if key not in self._kinds:
            self._kinds[key] = self._kind_of(language, label)
        return self._kinds[key]

    def _kind_of(self, language: str, label: str) -> Kind:
        if same_language(language, label):
            return "own"
        others = (tag for tag in self._plausible if not (same_language(language, tag) or same_language(tag, language)))
        if any(same_language(other, label) for other in others):
            return "plausible"
        return "related" if _nearness(language, label) <= RELATED else "unexpected"


_nearness = cache(nearness)


def _likely(guesses: Guesses) -> Guesses:
    """Without what is hardly possible: an identifier has a hundred such labels."""
    return {label: probability for label, probability in guesses.items() if probability >= HARDLY}


@cache
def _knows(identifier: Identifier, language: str) -> bool:
    return any(same_language(language, label) for label in identifier.labels)


@cache
def _digest(model: str, revision: str | None) -> str:
    return sha256(identifiers.model_file(model, revision))[:12]
