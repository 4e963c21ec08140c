"""The champion judged again: real models, a real store, and what is done when it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from mlc.errors import MlcError
from mlc.evaluation import sampling
from mlc.gates.verdict import AuditVerdict
from mlc.models import manifest
from mlc.models.weights import weights_id
from mlc.prompts.schema import read_prompts, write_prompts
from mlc.registry import audit
from mlc.settings import Audit, Gate, GateRule, RefusalJudge, Settings
from registry.test_stage import GATE, Project, project  # noqa: F401 - a fixture

# Random weights answer nothing; what tells these models apart is how likely they find a reference reply.
LENIENT = GATE.model_copy(
    update={
        "rules": (
            GateRule(metric="safe_rate", at_least=0.0),
            GateRule(metric="over_refusal", at_most=1.0),
            GateRule(metric="perplexity_ratio", at_most=1.2),
        )
    }
)
STRICT = LENIENT.model_copy(update={"rules": (GateRule(metric="safe_rate", at_least=0.9), *LENIENT.rules[1:])})


def settings(project: Project, gate: Gate = LENIENT, on_failure: str = "notify") -> Settings:  # noqa: F811
    own = project.settings()
    evaluate = own.evaluate.model_copy(update={"judges": (RefusalJudge(name="refusal"),), "max_new_tokens": 4})
    return own.model_copy(
        update={"evaluate": evaluate, "gate": gate, "audit": Audit.model_validate({"on_failure": on_failure})}
    )


def second(project: Project) -> None:  # noqa: F811
    """A second version, of other weights, promoted by hand; the first is previous."""
    project.train(seed=1)
    weights = project.paths.model / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] *= 30  # sure of itself, and wrong
    save_file(tensors, weights, metadata={"format": "pt"})
    (project.paths.model / manifest.NAME).unlink()
    project.manifest(seed=1)
    project.samples("candidate")
    project.gate_and_register()
    model = project.model
    with model.moving():
        model.make_champion("promote", "2")
    assert project.aliases()["previous"] == "1"


@pytest.mark.slow
def test_an_audit_judges_the_champion_and_says_so_in_the_registry(project: Project) -> None:  # noqa: F811
    project.gate_and_register()
    verdict = audit.run(settings(project), project.paths)
    assert verdict.passed, verdict.failed
    assert verdict == AuditVerdict.of(project.paths)
    assert {rule.rule for rule in verdict.rules} >= {"safe_rate", "over_refusal", "leakage"}
    (version,) = project.model.versions()
    assert (version.tags["audit"], version.tags["audited"]) == ("passed", verdict.when)
    run = project.model.client.get_run(version.tags["audit.run"])
    assert (run.info.status, run.data.tags["audit.version"]) == ("FINISHED", "1")
    assert "evaluation/served/safe_rate/worst" in run.data.metrics
    samples = (project.paths.audit / "evaluation" / "samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["model"] for line in samples} == {weights_id(project.paths.audit / "model")}
    licensed = LENIENT.model_copy(update={"licences": ("Apache-2.0",)})
    (failed,) = audit.run(settings(project, licensed), project.paths).failed
    assert failed.startswith("licences: ") and "the licence of the base" in failed


@pytest.mark.slow
def test_an_audit_is_not_repeated_where_nothing_has_changed(
    project: Project,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project.gate_and_register()
    count: list[Any] = []
    real = sampling.sample_prompt_set
    monkeypatch.setattr(audit, "sample_prompt_set", lambda model, *a: count.append(model.name) or real(model, *a))
    first = audit.run(settings(project), project.paths)
    evaluated = list(count)
    assert audit.run(settings(project), project.paths) == first and count == evaluated
    audit.run(settings(project), project.paths, force=True)
    assert len(count) > len(evaluated)

    before = len(count)
    assert not audit.run(settings(project, STRICT), project.paths).passed  # another gate
    assert len(count) > before

    before = len(count)
    prompts = project.paths.prompts / "evaluation.jsonl"
    write_prompts(prompts, read_prompts(prompts, made_by="")[:-2])  # other prompts
    assert audit.run(settings(project), project.paths).passed and len(count) > before


@pytest.mark.slow
def test_a_failing_champion_stays_unless_a_rollback_was_asked_for(project: Project) -> None:  # noqa: F811
    project.gate_and_register()
    verdict = audit.run(settings(project, STRICT), project.paths)
    assert not verdict.passed and verdict.action is None
    assert project.model.versions()[0].tags["audit"] == "failed"
    verdict = audit.run(settings(project, STRICT, "rollback"), project.paths)
    assert verdict.action == "not rolled back: test-model has no champion before version 1"
    assert project.aliases()["champion"] == "1"


@pytest.mark.slow
def test_it_never_goes_back_to_something_worse(project: Project) -> None:  # noqa: F811
    project.gate_and_register()
    second(project)
    verdict = audit.run(settings(project, STRICT, "rollback"), project.paths)
    assert verdict.version == "2" and not verdict.passed
    assert verdict.action.startswith("not rolled back: version 1 does not pass either: ")
    assert project.aliases()["champion"] == "2"


@pytest.mark.slow
def test_it_goes_back_to_a_previous_champion_that_passes(project: Project) -> None:  # noqa: F811
    project.gate_and_register()
    second(project)
    prompts = project.paths.prompts / "evaluation.jsonl"
    reply = dict.fromkeys(("en", "es"), "a reply")
    rows = [row.model_copy(update={"references": reply}) for row in read_prompts(prompts, made_by="")]
    write_prompts(prompts, rows)
    verdict = audit.run(settings(project, on_failure="rollback"), project.paths)
    assert not verdict.passed
    assert verdict.action == "rolled back: version 1 of test-model is champion"
    assert project.aliases() == {"champion": "1", "previous": None, "candidate": "2"}
    moved = [e for e in project.model.ledger() if e["action"] == "rollback"]
    assert moved[0]["who"] == audit.WHO and moved[0]["why"].startswith("audit: ")
    assert audit.run(settings(project, on_failure="rollback"), project.paths).passed


def test_a_champion_that_was_tampered_with_is_not_judged(project: Project) -> None:  # noqa: F811
    project.gate_and_register()
    (version,) = project.model.versions()
    weights = Path(version.source.removeprefix("file://")) / "artifacts" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(MlcError, match="not what was registered"):
        audit.run(settings(project), project.paths)
    assert not (project.paths.audit / "verdict.json").exists()


def test_what_is_missing_is_named(project: Project) -> None:  # noqa: F811
    with pytest.raises(MlcError, match="test-model has no champion to audit"):
        audit.run(settings(project), project.paths)
    project.gate_and_register()
    shutil.rmtree(project.paths.base)
    with pytest.raises(MlcError, match="bring back tiny as in commit"):
        audit.run(settings(project), project.paths)
    (project.paths.prompts / "evaluation.jsonl").unlink()
    with pytest.raises(MlcError, match="run `mlc validate` first"):
        audit.run(settings(project), project.paths)
