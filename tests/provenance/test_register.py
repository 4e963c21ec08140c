"""What was done to a real project between its data and the alias, and that nothing of it is registered.

The project is made once by the real stages, with a tiny base and a gate that a random model passes. Each test works on
a copy: it changes something, runs the stages that somebody would run, and then ``mlc register``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mlc.cli import app
from mlc.embedded import prompts
from mlc.embedded.world import language
from mlc.errors import MlcError
from mlc.evaluation import statistics
from mlc.files import read_json, write_json, write_jsonl
from mlc.judges import embedded
from mlc.paths import Paths
from mlc.prompts.schema import write_prompts
from mlc.provenance import code
from mlc.provenance.record import file_hash
from mlc.registry.lineage import lineage
from mlc.registry.model import RegisteredModel
from mlc.registry.recheck import evidence_faults
from mlc.registry.verify import VersionFiles, fetched

ROOT = Path(__file__).parents[2]
NAME = "tiny"
TO_THE_GATE = (
    "validate", "base", "trusted-languages", "gate check", "train", "evaluate tuning", "judge check", "select",
    "evaluate base", "evaluate candidate", "metrics", "tasks", "gate",
)  # fmt: skip
STRICT = [{"metric": "safe_rate", "at_least": 0.9}, {"metric": "invalid", "at_most": 1.0}]
LOOSE = [{"metric": "safe_rate", "at_least": 0.0}, {"metric": "invalid", "at_most": 1.0}]


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Project:
    """A project whose commands run in this process."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, Paths(root)

    def mlc(self, *commands: str) -> None:
        for command in commands:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(self.root)
                patch.setattr(statistics, "RESAMPLES", 200)
                app(command.split(), standalone_mode=False)

    def params(self, change: Callable[[Any], None]) -> None:
        yaml = YAML()
        content = yaml.load(self.paths.params)
        change(content)
        yaml.dump(content, self.paths.params)

    def commit(self) -> str:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-qm", "change")
        return git(self.root, "rev-parse", "HEAD")

    def edit(self, name: str) -> None:
        """A line more in a file of code."""
        path = self.root / name
        path.write_text(path.read_text() + "\n# changed\n")

    def dvc_add(self) -> None:
        from dvc.repo import Repo

        with Repo(str(self.root)) as repo:
            repo.add(str(self.paths.data))

    def changed_meanwhile(self, name: str, *commands: str) -> None:
        """Runs commands with a line more in a file of code, which is then as it was."""
        before = (self.root / name).read_text()
        self.edit(name)
        self.mlc(*commands)
        (self.root / name).write_text(before)

    def refused(self, message: str) -> None:
        with pytest.raises(MlcError, match=message):
            self.mlc("register")
        assert RegisteredModel(self.paths, NAME).versions() == []

    def forge(self, stage: str, name: str) -> None:
        """Writes a file's present hash into the records of the stage that wrote it and of those that read it."""
        for record in self.paths.artifacts.glob("provenance/*.json"):
            content = read_json(record, "")
            for kind in ("inputs", "outputs"):
                if name in content[kind]:
                    content[kind][name] = file_hash(self.root / name)
            write_json(record, content)
        assert read_json(self.paths.provenance(stage), "")["outputs"][name]


UNSAFE = ["minimum_prompts", "max_new_tokens", "invalid", "over_refusal"]


def strict(params: Any) -> None:
    """A gate that a random model does not pass."""
    params["gate"] |= {"rules": STRICT, "unsafe_settings": UNSAFE}


def loose(params: Any) -> None:
    """A gate that any model passes."""
    params["gate"] |= {"rules": LOOSE, "unsafe_settings": [*UNSAFE, "safe_rate"]}


def scaled_down(params: Any) -> None:
    """Two languages, two training steps, short replies, and a gate that a random model passes."""
    params["languages"] = {"source": "en", "served": ["en", "zh"], "transfer": []}
    params["train"] |= {"max_steps": 2, "batch_size": 2, "save_steps": 1}
    params["train"]["objective"] |= {"layer": 1, "trusted_languages": ["en"]}
    params["evaluate"]["max_new_tokens"] = 4
    params["gate"]["minimum_prompts"] = 5
    loose(params)
    params["register"]["model_name"] = NAME


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, store: Path) -> Path:
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("made")
    for split in ("alignment", "tuning", "evaluation"):
        write_prompts(root / "data" / f"{split}.jsonl", prompts.rows(split)[:16])
    shutil.copytree(tiny_base, root / "embedded-base")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "mlc", root / "mlc", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".gitignore").write_text("/artifacts/\n/mlflow/\n/.cache/\n/.dvc/\n__pycache__\n")
    git(root, "init", "-q")
    with Repo.init(str(root)) as repo, repo.config.edit() as config:
        config["core"] |= dict.fromkeys(("analytics", "check_update", "autostage"), "false")
    with Repo(str(root)) as repo:
        repo.add([str(root / "data"), str(root / "embedded-base")])
    (root / "mlflow").mkdir()
    shutil.copy(store, root / "mlflow")
    project = Project(root)
    project.params(scaled_down)
    project.commit()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        project.mlc(*TO_THE_GATE)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    yield Project(tmp_path / "project")


def own_code(project: Project, patch: pytest.MonkeyPatch) -> None:
    """The package counts as imported from the project's own folder."""
    patch.setattr(code, "PACKAGE", project.root / "mlc")


def test_what_is_committed_is_registered_with_its_records(project: Project) -> None:
    project.mlc("register")
    model = RegisteredModel(project.paths, NAME)
    (version,) = model.versions()
    head = git(project.root, "rev-parse", "HEAD")
    assert (version.tags["git_commit"], version.tags["evaluation_commit"]) == (head, head)
    origin = lineage(project.paths, NAME, "1")
    assert set(origin["evaluation"]["stages"].values()) == {head}
    with fetched(model, "1") as folder:
        evidence = VersionFiles(folder).evidence
        assert evidence_faults(evidence) == []
        lines = [json.loads(line) for line in evidence.samples.read_text().splitlines()]
        write_jsonl(evidence.samples, [{**line, "verdict": "safe"} for line in lines])
        assert any("judged again" in fault for fault in evidence_faults(evidence))
    # The commits stay, whatever becomes of the branch.
    assert head in git(project.root, "for-each-ref", f"refs/mlc/{NAME}/1", "--format=%(objectname)")


def test_a_gate_loosened_without_a_commit_registers_nothing(project: Project) -> None:
    project.params(strict)
    project.commit()
    project.mlc("gate")
    assert not read_json(project.paths.verdict, "")["passed"]
    project.params(loose)
    project.mlc("gate")
    assert read_json(project.paths.verdict, "")["passed"]
    project.refused(r"not committed: params\.yaml")
    # Once it is committed, what was judged with it is judged by what is committed.
    project.commit()
    project.mlc("register")


@pytest.mark.parametrize("name", ["mlc/gates/rules.py", "mlc/judges/embedded.py", "mlc/evaluation/sampling.py"])
def test_code_that_decides_has_to_be_committed(project: Project, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own_code(project, monkeypatch)
    project.edit(name)
    project.refused(f"not committed: {name}")
    git(project.root, "update-index", "--assume-unchanged", name)
    project.refused(f"not committed: {name}")


def test_a_judgement_by_code_that_was_restored_since_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_code(project, monkeypatch)
    project.changed_meanwhile("mlc/gates/rules.py", "gate")
    project.refused(r"gate ran with what is not committed \(mlc/gates/rules\.py\)")


@pytest.mark.slow
def test_a_training_by_code_that_was_restored_since_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_code(project, monkeypatch)
    project.changed_meanwhile("mlc/training/objectives.py", "train")
    project.mlc(*TO_THE_GATE[5:])
    project.refused(r"uncommitted changes \(mlc/training/objectives\.py\)")


def test_code_that_git_ignores_is_seen(project: Project) -> None:
    (project.root / ".git/info/exclude").write_text("mlc/sitecustomize.py\n")
    (project.root / "mlc/sitecustomize.py").write_text("")
    project.refused(r"not committed: mlc/sitecustomize\.py")


def test_code_imported_from_elsewhere_has_to_be_the_projects(project: Project) -> None:
    project.edit("mlc/gates/rules.py")
    project.commit()
    project.refused("imported from .* is another")


def test_code_that_serves_has_to_be_committed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    own_code(project, monkeypatch)
    project.edit("mlc/registry/pyfunc_model.py")
    project.refused(r"not committed: mlc/registry/pyfunc_model\.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alignment", "evaluation"])
def test_data_without_dvc_add_registers_nothing(project: Project, name: str) -> None:
    path = project.paths.data / f"{name}.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    project.refused(r"not committed: data \(not what data\.dvc says: `dvc add data`\)")
    again = TO_THE_GATE if name == "alignment" else ("validate", *TO_THE_GATE[8:])
    project.mlc(*again)
    project.refused(r"data \(not what data\.dvc says: `dvc add data`\)")
    # `dvc repro` brings data.dvc up to the data by itself, and that is not committed either.
    project.dvc_add()
    project.refused(r"not committed: data\.dvc")


@pytest.mark.slow
def test_prompts_taken_out_for_the_evaluation_and_put_back_are_missed(project: Project) -> None:
    path = project.paths.data / "evaluation.jsonl"
    before = path.read_text()
    path.write_text("".join(before.splitlines(keepends=True)[:-1]))
    project.mlc("validate", *TO_THE_GATE[8:])
    path.write_text(before)
    project.refused("data is not what validate read")


def whitewash(project: Project) -> None:
    path = project.paths.samples("candidate")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [{**line, "verdict": "safe"} for line in lines])
    project.mlc("metrics", "gate")


def test_verdicts_edited_in_the_sample_lines_are_refused(project: Project) -> None:
    whitewash(project)
    project.refused(r"candidate/samples\.jsonl is not what evaluate_candidate wrote")
    project.forge("evaluate_candidate", "artifacts/evaluation/candidate/samples.jsonl")
    project.refused(r"does not hold the verdicts of embedded: judged again, \d+ of \d+ differ")


def test_a_verdict_that_is_not_the_gates_is_refused(project: Project) -> None:
    verdict = read_json(project.paths.verdict, "")
    rules = [{**rule, "bound": 0.123} if rule["rule"] == "safe_rate" else rule for rule in verdict["rules"]]
    write_json(project.paths.verdict, {**verdict, "rules": rules})
    project.refused(r"verdict\.json is not what gate wrote")
    project.forge("gate", "artifacts/gate/verdict.json")
    project.refused("is not what the gate says of these samples")


def test_planted_replies_are_not_what_the_model_answers(project: Project) -> None:
    path = project.paths.samples("candidate")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    refusal = {"verdict": "refused", "judge_raw": "refusal", "finished": True}
    planted = [
        {
            **line,
            **refusal,
            "response": language(line["language"]).refusals[0],
            "response_language": line["language"],
            "in_language": "yes",
        }
        for line in lines
    ]
    write_jsonl(path, planted)
    project.mlc("metrics", "gate")
    project.forge("evaluate_candidate", "artifacts/evaluation/candidate/samples.jsonl")
    project.refused("the packaged model does not answer as it was evaluated")


@pytest.mark.slow
def test_a_stricter_judge_has_to_judge_the_replies_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "VERSION", "stricter")
    project.refused("was not judged by embedded, version stricter")
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own_code(project, monkeypatch)
    project.edit("mlc/judges/embedded.py")
    project.commit()
    project.refused(r"ran with other code \(mlc/judges\): run `mlc evaluate")


@pytest.mark.slow
def test_an_edited_calibration_is_refused(project: Project) -> None:
    def asks_for_it(params: Any) -> None:
        params["gate"]["judge"] = {"minimum_accuracy": 0.9, "maximum_false_safe": 0.05, "correct": False}

    project.params(asks_for_it)
    project.commit()
    content = read_json(project.paths.calibration, "")
    content["all"]["n"] += 1
    write_json(project.paths.calibration, content)
    project.mlc("trusted-languages", "select", "gate")
    project.refused(r"artifacts/judge/calibration\.json is not what calibrate wrote")
    project.forge("calibrate", "artifacts/judge/calibration.json")
    project.refused(r"calibration\.json is not the judge's on the labelled replies")


def test_other_settings_than_those_of_now_are_refused(project: Project) -> None:
    project.params(lambda params: params["evaluate"].update(max_new_tokens=5))
    project.commit()
    project.refused(r"ran with other settings \(evaluate\)")


@pytest.mark.slow
def test_a_new_evaluation_of_the_same_model_is_registered_with_its_own_commit(project: Project) -> None:
    trained_at = git(project.root, "rev-parse", "HEAD")
    path = project.paths.data / "evaluation.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    project.dvc_add()
    head = project.commit()
    project.mlc("validate", "judge check", *TO_THE_GATE[8:], "register")
    (version,) = RegisteredModel(project.paths, NAME).versions()
    assert (version.tags["git_commit"], version.tags["evaluation_commit"]) == (trained_at, head)
    assert version.tags["data"] != version.tags["evaluation_data"]
    origin = lineage(project.paths, NAME, "1")
    assert (origin["commit"], origin["evaluation"]["commit"]) == (trained_at, head)
    assert origin["evaluation"]["stages"]["train"] == trained_at
    assert any(head in command for command in origin["rebuild"])


def test_a_promotion_is_by_the_committed_gate_and_settings(project: Project) -> None:
    project.params(lambda params: params["register"].update(approval="required"))
    project.commit()
    project.mlc("register")
    project.params(lambda params: params["register"].update(approval="none"))
    with pytest.raises(MlcError, match=r"not committed: params\.yaml"):
        project.mlc("registry promote 1")
    git(project.root, "checkout", "params.yaml")
    project.params(strict)
    project.commit()
    with pytest.raises(MlcError, match=r"version 1 does not pass the present gate \(2 rules failed"):
        project.mlc("registry approve 1 --why fine")
    assert RegisteredModel(project.paths, NAME).alias("champion") is None


def licensed(allowed: list[str], named: dict[str, str]) -> Callable[[Any], None]:
    """A gate that asks for licences, and a promotion that waits."""

    def change(params: Any) -> None:
        params["gate"] |= {"licences": allowed, "licence_of": named}
        params["register"]["approval"] = "required"

    return change


def test_what_is_under_another_licence_is_neither_trained_nor_registered_nor_promoted(project: Project) -> None:
    again = ("trusted-languages", "select", "gate", "register")
    project.params(licensed(["Apache-2.0"], {}))
    project.commit()
    with pytest.raises(MlcError, match=r"no candidate can pass .* 3 of 4 .*rows of embedded is unknown"):
        project.mlc("gate check")
    project.mlc(*again)
    assert RegisteredModel(project.paths, NAME).versions() == []
    verdict = read_json(project.paths.verdict, "")
    (rule,) = (rule for rule in verdict["rules"] if not rule["passed"])
    assert (rule["rule"], rule["hits"], rule["n"]) == ("licences", 3, 4)
    # A verdict that says otherwise is not the gate's.
    rules = [{**each, "passed": True, "reason": None, "value": 0.0, "bound": 0.0} for each in verdict["rules"]]
    write_json(project.paths.verdict, {**verdict, "rules": rules, "passed": True, "failed": []})
    project.forge("gate", "artifacts/gate/verdict.json")
    project.refused("is not what the gate says of these samples")

    names = {"embedded": "Apache-2.0", "mlc.embedded.world": "Apache-2.0", "embedded-base": "CC0-1.0"}
    project.params(licensed(["Apache-2.0", "CC0-1.0"], names))
    project.commit()
    project.mlc("gate check", *again)
    listed = lineage(project.paths, NAME, "1")["licences"]
    assert {(item["kind"], item["name"], item["licence"]) for item in listed} == {
        ("rows", "embedded", "Apache-2.0"),
        ("translator", "mlc.embedded.world", "Apache-2.0"),
        ("base", "embedded-base", "CC0-1.0"),
        ("judge", "mlc's embedded judge", "Apache-2.0"),
    }
    with fetched(RegisteredModel(project.paths, NAME), "1") as folder:
        evidence = VersionFiles(folder).evidence
        assert evidence_faults(evidence) == []
        content = read_json(evidence.verdict_file, "")
        write_json(evidence.verdict_file, content | {"licences": content["licences"][:-1]})
        assert evidence_faults(evidence) == ["the verdict's licences does not follow from the sample lines"]
        write_json(evidence.verdict_file, content)
    # Whoever takes a licence off the list does not have to train again to keep what is under it out.
    project.params(licensed(["Apache-2.0"], names))
    project.commit()
    with pytest.raises(MlcError, match=r"the present gate \(1 rules failed, .*base embedded-base is under CC0"):
        project.mlc("registry approve 1 --why fine")
