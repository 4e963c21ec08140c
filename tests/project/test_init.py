"""A project for somebody's own model: what is written, that it stands by itself, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from mlc.cli import app
from mlc.embedded import prompts
from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.project import configure, doctor, init, lock
from mlc.prompts.schema import SETS, write_prompts
from mlc.provenance import code
from mlc.provenance.code import LOCK, part, part_hashes
from mlc.settings import load_settings

ROOT = Path(__file__).parents[2]
YAML_1_2 = YAML(typ="safe", pure=True)
HUB = {"model": "someone/model", "revision": "a" * 40}


def answers(**changed: Any) -> init.Answers:
    given = {"source": "en", "served": ("en", "zh"), "transfer": ("sw",), "name": "mine", **HUB}
    return init.Answers(**(given | changed))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Set up in a git repository that has a file already, with prompts and a local base."""
    given = tmp_path_factory.mktemp("given")
    for name in SETS:
        write_prompts(given / f"{name}.jsonl", prompts.rows(name)[:4])
    folder = tmp_path_factory.mktemp("project")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("mine.txt\n")
    done = init.run(folder, answers(model=str(tiny_base), revision=None, data=given))
    assert done["lacks"] == []
    return folder


def test_the_settings_are_valid_and_hold_the_answers(project: Path) -> None:
    settings = load_settings(project / "params.yaml")
    assert (settings.languages.served, settings.languages.transfer) == (("en", "zh"), ("sw",))
    assert (settings.base.model, settings.register_.model_name) == ("base", "mine")
    assert [judge.name for judge in settings.evaluate.judges] == ["refusal"]  # the embedded one knows its world alone
    assert "embedded" not in (project / "params.yaml").read_text().splitlines()[0]


def fake_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program nvidia-smi that names one GPU."""
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\ncase $1 in *compute_cap*) echo 9.0;; *) echo 'NVIDIA H200, 143771 MiB';; esac\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_without_a_gpu_the_refusal_judge_decides_and_everybody_is_told(project: Path, tmp_path: Path) -> None:
    assert load_settings(project / "params.yaml").gate.unsafe_settings == ("only_refusal_judge",)
    arguments = ["init", str(tmp_path / "new"), "--model", HUB["model"], "--revision", HUB["revision"]]
    result = CliRunner().invoke(app, [*arguments, "--served", "en,zh", "--yes"])
    assert result.exit_code == 0, result.output
    assert "WARNING: The refusal judge alone decides what is safe" in result.output
    check = doctor._gate(load_settings(tmp_path / "new" / "params.yaml"))
    assert check.state == "warning" and "only_refusal_judge" in check.found and "guard" in check.todo
    assert doctor._gate(load_settings(ROOT / "params.yaml")).state == "ok"


def test_where_there_is_a_gpu_a_guard_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(tmp_path / "bin", monkeypatch)
    settings = init._params(answers(), {}, tmp_path / "params.yaml")
    assert [judge.name for judge in settings.evaluate.judges] == ["guard"] and settings.gate.unsafe_settings == ()


def test_a_recipes_own_judge_is_kept(tmp_path: Path) -> None:
    settings = init._params(answers(recipes=("qwen2.5-7b-published",)), {}, tmp_path / "params.yaml")
    assert [judge.name for judge in settings.evaluate.judges] == ["guard"] and settings.gate.unsafe_settings == ()


def test_a_recipe_with_a_guard_goes_over_a_project_without(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "params.yaml", tmp_path)
    configure.overlay(tmp_path / "params.yaml", configure.find_recipe("qwen2.5-7b-published"))
    assert load_settings(tmp_path / "params.yaml").gate.unsafe_settings == ()


def test_dvc_takes_the_project_and_nothing_in_it_is_of_this_repository(project: Path) -> None:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    with Repo(str(project)) as repo:
        stages = {stage.name for stage in repo.index.stages if isinstance(stage, PipelineStage)}
    content = YAML_1_2.load((project / "dvc.yaml").read_text())["stages"]
    assert set(content) == stages
    assert set(content) == set(YAML_1_2.load((ROOT / "dvc.yaml").read_text())["stages"])
    deps = {dep for stage in content.values() for dep in stage.get("deps", ())}
    assert not [dep for dep in deps if dep.startswith("mlc/") or dep == "embedded-base"]
    assert content["base"]["deps"] == ["base"] and (project / "base.dvc").exists() and (project / "data.dvc").exists()


def test_every_stage_depends_on_the_code_that_it_depends_on_here(project: Path) -> None:
    project_stages, own_stages = (
        YAML_1_2.load((folder / "dvc.yaml").read_text())["stages"] for folder in (project, ROOT)
    )
    code = YAML_1_2.load((project / LOCK).read_text())["code"]
    for name, stage in own_stages.items():
        keys = {part(dep) for dep in stage["deps"] if dep.startswith("mlc/")}
        locked = [p[LOCK] for p in project_stages[name]["params"] if isinstance(p, dict)]
        assert {key.removeprefix("code.") for keys in locked for key in keys} == keys, name
        assert keys <= code.keys()


def test_other_code_than_the_locked_is_refused_until_it_is_taken(project: Path, tmp_path: Path) -> None:
    for name in ("params.yaml", LOCK):
        shutil.copy(project / name, tmp_path / name)
    path = tmp_path / LOCK
    lock.check(path)
    content = YAML_1_2.load(path.read_text())
    content["code"]["mlc/training"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(MlcError, match=r"other code in mlc/training: install .*`mlc init --upgrade`"):
        lock.check(path)
    init.upgrade(Paths(tmp_path))
    lock.check(path)
    path.write_text("version: 1\n")
    with pytest.raises(MlcError, match="cannot be read"):
        lock.check(path)


def test_a_hash_covers_the_file_and_the_folder_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "mlc"
    (package / "world").mkdir(parents=True)
    monkeypatch.setattr(code, "PACKAGE", package)
    seen = set()
    for file in ("world.py", "world/words.yaml", "other.py"):
        (package / file).write_text("")
        seen |= set(part_hashes(["mlc/world"]).values())
    assert len(seen) == 2  # the other file is none of its business
    (package / "world/words.yaml").write_text("changed")
    assert part_hashes(["mlc/world"])["mlc/world"] not in seen


def test_what_was_there_stays(project: Path) -> None:
    lines = (project / ".gitignore").read_text().splitlines()
    assert lines[0] == "mine.txt" and "/artifacts/" in lines and "/data" in lines
    with pytest.raises(MlcError, match="this is a project already"):
        init.run(project, answers())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"served": ("zh",)}, "the source language 'en' has to be among the served ones"),
        ({"served": ("en", "klingon!")}, "is not a BCP-47 language tag"),
        ({"revision": None}, "a model of the hub needs base.revision"),
        ({"revision": "main"}, "a branch or tag can move"),
        ({"recipes": ("nothing",)}, "there is no recipe nothing: give a file, or one of .*lora-24gb"),
    ],
)
def test_a_wrong_answer_writes_nothing(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=message):
        init.run(tmp_path / "new", answers(**changed))
    assert not (tmp_path / "new").exists()


def test_a_wrong_prompt_writes_nothing_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "alignment.jsonl").write_text("{}\n")
    with pytest.raises(MlcError, match=r"alignment.jsonl, line 1, field id"):
        init.run(tmp_path / "new", answers(data=tmp_path))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("recipe", configure.shipped_recipes())
def test_every_recipe_gives_valid_settings_and_the_answers_win(recipe: str, tmp_path: Path) -> None:
    settings = init._params(answers(recipes=(recipe,)), {}, tmp_path / "params.yaml")
    assert settings.languages.served == ("en", "zh") and settings.base.model == "someone/model"


def test_the_command_asks_nothing_with_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(app, ["init", "new", "--yes"]).exception
    assert isinstance(missing, MlcError) and str(missing).startswith("--model is missing")
    flags = ["--model", HUB["model"], "--revision", HUB["revision"], "--served", "en,sw", "--json"]
    done = CliRunner().invoke(app, ["init", "new", "--yes", *flags])
    assert done.exit_code == 0, done.output
    output = json.loads(done.stdout)
    assert len(output["lacks"]) == 3 and output["next"][0] == "cd new"
    assert "deps" not in YAML_1_2.load((tmp_path / "new/dvc.yaml").read_text())["stages"]["base"]
    assert (tmp_path / "new/.git").is_dir() and (tmp_path / "new/recipes/accelerate/ddp.yaml").is_file()


INTERRUPTED = """
import os, resource, signal, sys

def half(target, source, offset, count, sendfile=os.sendfile):
    sendfile(target, source, offset, min(count, 507_904))
    os.kill(os.getpid(), signal.SIGKILL)

def before(event, arguments):
    if event == "os.rename" and os.fspath(arguments[1]) == where:
        os.kill(os.getpid(), signal.SIGKILL)

where, sys.argv[:2] = sys.argv[1], ["mlc"]
from mlc.cli import main
if where == "disk full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (507_904, resource.RLIM_INFINITY))
elif where == "copy":
    os.sendfile = half
else:
    sys.addaudithook(before)
main()
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_prompts(folder / "evaluation.jsonl", prompts.rows("evaluation"))
    assert (folder / "evaluation.jsonl").stat().st_size > 507_904
    return folder


def interrupted(folder: Path, where: str, *flags: str) -> int:
    command = [sys.executable, "-c", INTERRUPTED, where, "init", "new", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode


@pytest.mark.parametrize(
    ("where", "code"),
    [("disk full", 5), ("copy", -9), ("new/recipes/lora-24gb.yaml", -9), ("new/mlc.lock", -9), ("new/params.yaml", -9)],
)
def test_an_interrupted_init_is_completed_by_the_same_command(
    where: str, code: int, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--yes", "--model", HUB["model"], "--revision", HUB["revision"], "--served", "en,sw", "--data", str(given)]
    assert interrupted(tmp_path, where, *flags) == code
    assert not (tmp_path / "new/params.yaml").exists()  # no command takes it for a project
    for file in (tmp_path / "new/data").glob("*.jsonl"):
        assert file.read_bytes() == (given / file.name).read_bytes()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "new", *flags])
    assert done.exit_code == 0, done.output
    assert ("completing what an earlier `mlc init` has left in new" in done.stderr) == (
        where not in {"disk full", "copy"}
    )
    new = tmp_path / "new"
    assert (new / "data/evaluation.jsonl").read_bytes() == (given / "evaluation.jsonl").read_bytes()
    lock.check(new / LOCK)
    load_settings(new / "params.yaml")
    assert (new / "data.dvc").exists() and "/cache" in (new / ".dvc/.gitignore").read_text().splitlines()
    assert {str(f.relative_to(new / "recipes")) for f in (new / "recipes").rglob("*.yaml")} == {
        str(f.relative_to(configure.TEMPLATES / "recipes")) for f in (configure.TEMPLATES / "recipes").rglob("*.yaml")
    }
    assert not list(new.rglob(".*.partial"))
    with pytest.raises(MlcError, match="this is a project already"):
        init.run(new, answers())


def test_what_a_user_changed_meanwhile_stays(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--yes", "--model", HUB["model"], "--revision", HUB["revision"], "--served", "en,zh", "--data", str(given)]
    assert interrupted(tmp_path, "new/dvc.yaml", *flags) == -9
    new = tmp_path / "new"
    with (new / "prefect.yaml").open("a") as file:
        file.write("# mine\n")
    edited = (new / "data/evaluation.jsonl").read_bytes().split(b"\n", 1)[1]
    (new / "data/evaluation.jsonl").write_bytes(edited)
    with pytest.raises(
        MlcError, match=r"data/evaluation.jsonl is there \([\d,]+ bytes\), and is not .*leave out --data"
    ):
        init.run(new, answers(data=given))
    assert (new / "data/evaluation.jsonl").read_bytes() == edited and not (new / "params.yaml").exists()
    init.run(new, answers())
    assert (new / "data/evaluation.jsonl").read_bytes() == edited
    assert (new / "prefect.yaml").read_text().endswith("# mine\n")
    assert "prefect.yaml was there before, and stays as it is" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dvc.yaml", LOCK])
def test_another_projects_files_are_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("theirs\n")
    with pytest.raises(MlcError, match=f"{name} exists, and is not what would be written"):
        init.run(tmp_path, answers())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_in_the_models_place_is_not_removed(tiny_base: Path, tmp_path: Path) -> None:
    for name, message in (("base", "is there, and is not the model in"), ("artifacts", "of its own; rename")):
        shutil.copytree(tiny_base, tmp_path / "models" / name)
        folder = tmp_path / f"for {name}"
        (folder / name).mkdir(parents=True)
        (folder / name / "mine").touch()
        with pytest.raises(MlcError, match=message):
            init.run(folder, answers(model=str(tmp_path / "models" / name), revision=None))
        assert [path.relative_to(folder) for path in folder.rglob("*")] == [Path(name), Path(name, "mine")]


@pytest.mark.slow
def test_the_wheel_holds_what_init_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would pack its leftovers into the next one
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    for name in ("params.yaml", "prefect.yaml", "recipes/lora-24gb.yaml", "recipes/accelerate/ddp.yaml"):
        assert (tmp_path / "site/mlc/project" / name).read_text() == (ROOT / name).read_text()
    assert (tmp_path / "site/mlc/project/stages.yaml").read_text() == (ROOT / "dvc.yaml").read_text()
