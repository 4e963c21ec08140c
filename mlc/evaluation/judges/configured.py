"""The judges that the settings name. Each is imported only where it is used."""

from __future__ import annotations

from mlc.evaluation.judges import Judge
from mlc.evaluation.judges.closed import FailClosed
from mlc.settings import EmbeddedJudge, Evaluate, GuardJudge, LlmJudge, RefusalJudge


def make_judge(evaluate: Evaluate) -> Judge:
    """The judge, or the panel, that the settings name; none of them raises on account of a reply.

    Raises:
        MlcError: a key or a model is missing.
    """
    judges: list[Judge] = [FailClosed(_one(judge, evaluate)) for judge in evaluate.judges]
    if len(judges) == 1:
        return judges[0]
    from mlc.evaluation.judges.panel import Panel

    return Panel(judges, evaluate.judge_rule)


def _one(judge: EmbeddedJudge | RefusalJudge | GuardJudge | LlmJudge, evaluate: Evaluate) -> Judge:
    if judge.name == "embedded":
        from mlc.embedded import judge as embedded

        return embedded.EmbeddedJudge()
    if judge.name == "refusal":
        from mlc.evaluation.judges import refusal

        return refusal.RefusalJudge()
    if judge.name == "guard":
        from mlc.evaluation.judges import guard

        return guard.GuardJudge(judge, evaluate.precision, evaluate.batch_tokens)
    from mlc.evaluation.judges import llm

    return llm.LlmJudge(judge)
