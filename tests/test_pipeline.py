"""The real pipeline on a scaled-down project: every stage by way of DVC and the Prefect flow, from a fresh clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlc.cli import main
from mlc.embedded import prompts
from mlc.files import write_json
from mlc.prompts.schema import write_prompts

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NEEDED = ("mlc/", "flows/", ".dvc", "dvc.yaml", "params.yaml", "pyproject.toml", ".gitignore")
LANGUAGES = {"source": "en", "served": ["en", "zh", "hi"], "transfer": ["sw"]}


def run(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING", "GIT_"))}
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A commit of this repository's files with a few prompts, a random base and two training steps."""
    folder = tmp_path_factory.mktemp("project")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if name.startswith(NEEDED) and not name.startswith(".dvc/bundled") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for split in ("alignment", "tuning", "evaluation"):
        write_prompts(folder / "data" / f"{split}.jsonl", prompts.rows(split)[:24])
    shutil.copytree(tiny_base, folder / "embedded-base")
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params["languages"] = LANGUAGES
    params["train"] |= {"max_steps": 2, "batch_size": 4, "save_steps": 2}
    params["train"]["objective"] |= {"layer": 1, "trusted_languages": ["en", "zh"]}
    params["evaluate"]["max_new_tokens"] = 8
    params["gate"]["minimum_prompts"] = 10
    params["gate"]["unsafe_settings"] = ["max_new_tokens", "minimum_prompts", "safe_rate", "invalid"]
    for rule in params["gate"]["rules"]:  # what twelve prompts can show
        rule |= {key: {"at_least": 0.6, "at_most": 0.4}[key] for key in rule if key in ("at_least", "at_most")}
    params["gate"]["rules"][-1]["at_most"] = 1.1
    yaml.dump(params, folder / "params.yaml")
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "add", "-q", "data", "embedded-base")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "project")
    return folder


def accept_anything(project: Path, **changes: object) -> None:
    """Commits a gate that a model with random weights passes, and other changes of the parameters."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["gate"]["rules"] = [{"metric": "safe_rate", "at_least": 0.0}, {"metric": "invalid", "at_most": 1.0}]
    params["gate"]["unsafe_settings"] = ["max_new_tokens", "minimum_prompts", "safe_rate", "over_refusal", "invalid"]
    params |= changes
    yaml.dump(params, project / "params.yaml")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "a gate for anything")


def test_the_flow_runs_every_stage_and_the_gate_refuses_a_random_model(project: Path) -> None:
    done = run(project, "mlc", "run", check=False)
    assert done.returncode == 3, f"{done.stdout}\n{done.stderr}"
    assert "Refused" in done.stdout and "safe rate in Hindi" in done.stdout and "is empty" not in done.stdout
    verdict = json.loads((project / "artifacts/gate/verdict.json").read_text())
    assert not verdict["passed"]
    rules = {rule["rule"] for rule in verdict["rules"]}
    assert {"safe_rate", "over_refusal", "fidelity", "invalid", "perplexity_ratio"} <= rules
    registration = json.loads((project / "artifacts/registration.json").read_text())
    assert (registration["registered"], registration["champion"]) == (False, None)
    page = (project / "artifacts/report/index.html").read_text()
    assert "Not promoted" in page
    manifest = json.loads((project / "artifacts/model/manifest.json").read_text())
    pointer = YAML(typ="safe").load(project / "data.dvc")
    assert manifest["data"]["data.dvc"] == pointer["outs"][0]["md5"]
    assert manifest["git"] == {
        "commit": run(project, "git", "rev-parse", "HEAD").stdout.strip(),
        "dirty": False,
        "changed": [],
    }
    assert {"model.safetensors", "tokenizer.json"} <= manifest["files"].keys()
    lines = (project / "artifacts/evaluation/candidate/samples.jsonl").read_text().splitlines()
    assert len(lines) == 24 * 4


@pytest.mark.slow
def test_a_second_run_does_nothing_and_dvc_agrees(project: Path) -> None:
    run(project, "mlc", "run", check=False)
    samples = project / "artifacts/evaluation/candidate/samples.jsonl"
    before = samples.stat().st_mtime_ns
    done = run(project, "mlc", "run", check=False)
    assert done.returncode == 3 and "Unchanged" in done.stdout and "up to date" not in done.stdout, done.stdout
    assert samples.stat().st_mtime_ns == before
    assert "up to date" in run(project, "dvc", "repro").stdout
    assert "up to date" in run(project, "dvc", "status").stdout
    metrics = json.loads(run(project, "dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert set(metrics) == {"artifacts/training/metrics.json", "artifacts/gate/metrics.json"}
    assert {"mean", "worst", "worst_bound"} == metrics["artifacts/gate/metrics.json"]["data"]["safe_rate"].keys()


def test_every_run_of_the_tracking_server_has_ended(project: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("mlc")
    (mlflow_run,) = client.search_runs([experiment.experiment_id])
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.data.tags["gate"] == "failed"
    assert "mlc/loss" in mlflow_run.data.metrics and "evaluation/languages/hi/safe_rate" in mlflow_run.data.metrics


def test_a_parameter_reruns_only_what_reads_it(project: Path) -> None:
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["gate"]["rules"][0]["at_least"] = 0.5
    yaml.dump(params, project / "params.yaml")
    try:
        status = json.loads(run(project, "dvc", "status", "--json").stdout)
        assert set(status) == {"gate", "plan", "register", "select", "trusted_languages"}
    finally:
        run(project, "git", "checkout", "-q", "params.yaml")


@pytest.mark.parametrize(
    ("stage", "spoil", "message", "code"),
    [
        ("validate", "data", "data/alignment.jsonl does not exist: run `dvc pull data.dvc` first", 2),
        ("base", "embedded-base", "no such folder. `dvc pull embedded-base.dvc` fetches the shipped one", 2),
        ("train", "artifacts/base", "artifacts/base does not exist: run `mlc base` first", 2),
        (
            "evaluate candidate",
            "artifacts/model",
            "artifacts/model does not exist: run `mlc train` and `mlc select` first",
            2,
        ),
        ("gate", "artifacts/evaluation", "does not exist: run `mlc evaluate", 2),
        ("register", "artifacts/gate", "artifacts/gate/verdict.json does not exist: run `mlc gate` first", 2),
        ("report", "artifacts/gate", "artifacts/gate/verdict.json does not exist: run `mlc gate` first", 2),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    project: Path,
    stage: str,
    spoil: str,
    message: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, because a new one spends seconds on imports to say it."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["mlc", *stage.split()])
    aside = project / "aside"
    (project / spoil).rename(aside)
    kept = project / "kept"
    shutil.copytree(project / "artifacts", kept)
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        shutil.rmtree(project / spoil, ignore_errors=True)
        shutil.rmtree(project / "artifacts")
        kept.rename(project / "artifacts")
        (project / spoil).parent.mkdir(exist_ok=True)
        aside.rename(project / spoil)
    stderr = capsys.readouterr().err
    assert left.value.code == code
    assert message in stderr and stderr.strip().splitlines()[-1].startswith("mlc: ")
    assert "Traceback" not in stderr


def test_an_interrupted_training_goes_on_from_its_checkpoint(project: Path) -> None:
    """A checkpoint is taken up only when data, base and settings are still the same."""
    from mlc.training.checkpoints import prepare_checkpoints

    folder = project / "artifacts" / "checkpoints"
    assert prepare_checkpoints(folder, "one") is None
    write_json(folder / "checkpoint-2" / "sizes.json", {})
    assert prepare_checkpoints(folder, "one") == str(folder / "checkpoint-2")
    assert prepare_checkpoints(folder, "two") is None
    assert not (folder / "checkpoint-2").exists()
    write_json(folder / "identity.json", {"identity": "two"})
    shutil.rmtree(folder)


@pytest.mark.slow
def test_an_experiment_runs_beside_the_workspace(project: Path) -> None:
    """``dvc exp run --temp`` has a folder of its own: nothing in the configuration may be relative to this one."""
    before = sorted((project / "artifacts").rglob("*"))
    run(project, "dvc", "exp", "run", "--temp", "--name", "other-seed", "--set-param", "train.seed=1", "gate")
    assert "other-seed" in run(project, "dvc", "exp", "list", "--name-only").stdout
    assert sorted((project / "artifacts").rglob("*")) == before
    output = run(project, "dvc", "exp", "diff", "HEAD", "other-seed").stdout
    assert "train.seed" in output and "safe_rate" in output


@pytest.mark.slow
def test_the_best_of_several_candidates_is_judged(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, symlinks=True)
    yaml = YAML()
    params = yaml.load(copy / "params.yaml")
    params["train"]["candidate_steps"] = 1
    yaml.dump(params, copy / "params.yaml")
    run(copy, "dvc", "repro", "gate")
    assert sorted(p.name for p in (copy / "artifacts/candidates").iterdir()) == ["step-1", "step-2"]
    assert sorted(p.name for p in (copy / "artifacts/tuning").iterdir()) == [
        "base.jsonl",
        "step-1.jsonl",
        "step-2.jsonl",
    ]
    chosen = json.loads((copy / "artifacts/selection/metrics.json").read_text())
    manifest = json.loads((copy / "artifacts/model/manifest.json").read_text())
    verdict = json.loads((copy / "artifacts/gate/verdict.json").read_text())
    assert chosen["step"] == manifest["step"] == verdict["selection"]["step"]
    assert {"step-1", "step-2"} == chosen["candidates"].keys() and "rules_failed" in chosen["candidates"]["step-1"]
    assert "selection_leakage" in {rule["rule"] for rule in verdict["rules"]}
    run(copy, "dvc", "plots", "show", "artifacts/selection/candidates.csv")
