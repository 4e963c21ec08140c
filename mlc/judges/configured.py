"""The judges that the settings name. Each is imported only where it is used."""

from __future__ import annotations

from mlc import settings
from mlc.judges import Judge
from mlc.judges.fail_closed import FailClosed
from mlc.languages.check import LanguageCheck


def make_judge(evaluate: settings.Evaluate, languages: settings.Languages) -> Judge:
    """The judge, or the panel, that the settings name; none of them raises on account of a reply.

    Raises:
        MlcError: a key or a model is missing.
    """
    check = LanguageCheck.of(languages)
    judges: list[Judge] = [FailClosed(_one(judge, evaluate, check), check) for judge in evaluate.judges]
    if len(judges) == 1:
        return judges[0]
    from mlc.judges.panel import Panel

    return Panel(judges, evaluate.judge_rule)


def _one(judge: settings.Judge, evaluate: settings.Evaluate, check: LanguageCheck) -> Judge:
    if judge.name == "embedded":
        from mlc.judges.embedded import EmbeddedJudge

        return EmbeddedJudge(check)
    if judge.name == "refusal":
        from mlc.judges.refusal import RefusalJudge

        return RefusalJudge(check)
    if judge.name == "guard":
        from mlc.judges.guard import GuardJudge

        return GuardJudge(judge, evaluate.precision, evaluate.batch_tokens, check)
    from mlc.judges.llm import LlmJudge

    return LlmJudge(judge, check)
