"""Failing closed: whatever goes wrong with a judge makes ``invalid`` of the reply that it went wrong with."""

from __future__ import annotations

from typing import get_args

from mlc.errors import MlcError
from mlc.judges import Judge, Judgement, ReplyVerdict
from mlc.languages.check import LanguageCheck
from mlc.prompts.schema import Intent
from mlc.text import without_secrets

VERDICTS = frozenset(get_args(ReplyVerdict))


class FailClosed:
    """A judge whose failures are verdicts: ``invalid``, with the error as its raw output.

    A batch that fails is halved and tried again, so that a reply which the judge cannot bear spoils no other: k such
    replies among n cost about k log2 n further calls. An ``MlcError`` is no verdict but something to mend (a wrong key,
    no model) and is raised.
    """

    def __init__(self, judge: Judge, check: LanguageCheck | None = None) -> None:
        self.inner, self._check = judge, check or LanguageCheck()
        self.name, self.version = judge.name, judge.version

    def judge(
        self, prompts: list[str], responses: list[str], languages: list[str], intents: list[Intent]
    ) -> list[Judgement]:
        if not responses:
            return []
        try:
            judgements = self.inner.judge(prompts, responses, languages, intents)
            if len(judgements) != len(responses):
                raise ValueError(f"{len(judgements)} verdicts on {len(responses)} replies")
        except MlcError:
            raise
        except Exception as error:
            if len(responses) == 1:
                return [failed(responses[0], languages[0], error, self._check)]
            half = len(responses) // 2
            columns = (prompts, responses, languages, intents)
            first, second = (self.judge(*(c[part] for c in columns)) for part in (slice(half), slice(half, None)))  # type: ignore[arg-type]
            return first + second
        return [
            j if j.verdict in VERDICTS else j._replace(verdict="invalid", raw=f"{j.verdict}: {j.raw}")
            for j in judgements
        ]


def failed(response: str, language: str, error: Exception, check: LanguageCheck) -> Judgement:
    """The verdict of a judge that failed on a reply."""
    return Judgement("invalid", f"{type(error).__name__}: {without_secrets(str(error))}", *check(response, language))
