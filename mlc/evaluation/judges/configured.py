"""The judges that the settings name. Each is imported only where it is used."""

from __future__ import annotations

from mlc import settings
from mlc.evaluation.judges import Judge
from mlc.evaluation.judges.closed import FailClosed


def make_judge(evaluate: settings.Evaluate) -> Judge:
    """The judge, or the panel, that the settings name; none of them raises on account of a reply.

    Raises:
        MlcError: a key or a model is missing.
    """
    judges: list[Judge] = [FailClosed(_one(judge, evaluate)) for judge in evaluate.judges]
    if len(judges) == 1:
        return judges[0]
    from mlc.evaluation.judges.panel import Panel

    return Panel(judges, evaluate.judge_rule)


def _one(judge: settings.Judge, evaluate: settings.Evaluate) -> Judge:
    if judge.name == "embedded":
        from mlc.embedded.judge import EmbeddedJudge

        return EmbeddedJudge()
    if judge.name == "refusal":
        from mlc.evaluation.judges.refusal import RefusalJudge

        return RefusalJudge()
    if judge.name == "guard":
        from mlc.evaluation.judges.guard import GuardJudge

        return GuardJudge(judge, evaluate.precision, evaluate.batch_tokens)
    from mlc.evaluation.judges.llm import LlmJudge

    return LlmJudge(judge)
