"""What would stop a run is found before it starts, with what to do; nothing else is called a problem."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from mlc.embedded import prompts
from mlc.paths import Paths
from mlc.project import connections, doctor
from mlc.project.try_base import try_base
from mlc.prompts.schema import SETS, write_prompts
from mlc.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Paths:
    """Settings, prompts and base; no repository of git or DVC."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(tiny_base, tmp_path / "embedded-base")
    for name in SETS:
        write_prompts(tmp_path / "data" / f"{name}.jsonl", prompts.rows(name)[:4])
    return Paths(tmp_path)


def states(paths: Paths) -> dict[str, list[str]]:
    results: dict[str, list[str]] = {}
    for check in doctor.run(paths, tries_base=False):
        results.setdefault(check.name, []).append(check.state)
        assert (check.state == "ok") == (not check.todo), check  # whatever is not well says what to do
    return results


def test_a_project_that_can_run(project: Paths) -> None:
    results = states(project)
    for name in ("python", "packages", "disk", "settings", "base", "hub", "gpu", "tracking", "prefect"):
        assert set(results[name]) == {"ok"}, name
    assert results["prompts"] == ["ok"] * 3
    assert (results["git"], results["dvc"]) == (["problem"], ["problem"])  # there is neither here


def test_the_base_is_tried(project: Paths) -> None:
    """It loads, answers and trains a step, and nothing is left of that."""
    rows = prompts.rows("alignment")
    few = [next(row for row in rows if row.intent == intent) for intent in ("harmful", "benign")]
    write_prompts(project.data / "alignment.jsonl", few)
    before = sorted(project.root.rglob("*"))
    settings = load_settings(project.params)
    refused = {check.name: check for check in try_base(settings, project)}["training"]
    assert refused.state == "problem" and "objective.layer is 3, and the base has layers 1 to 2" in refused.found
    last = settings.train.objective.model_copy(update={"layer": -1})
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"objective": last})})
    tried = {check.name: check for check in try_base(settings, project)}
    assert [(name, check.state) for name, check in tried.items()] == [("answers", "ok"), ("training", "ok")], tried
    assert "ends a reply with <|im_end|>" in tried["answers"].found and "tokens a second" in tried["answers"].found
    assert sorted(project.root.rglob("*")) == before

    base = project.root / "embedded-base"
    for name in ("config.json", "generation_config.json"):
        config = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(config | {"eos_token_id": 5}))
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"eos_token": "<|im_start|>"}))
    answers, _ = try_base(settings, project)
    assert answers.state == "warning" and "which its settings do not stop at" in answers.found

    header = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(header.replace(b"model.norm.weight", b"model.nome.weight"))
    (answers,) = try_base(settings, project)
    assert answers.state == "problem" and "lack 1 of the model's tensors, such as model.norm.weight" in answers.found
    shutil.rmtree(base)
    (missing,) = try_base(settings, project)
    assert missing.state == "warning" and "mlc base" in missing.todo


def test_a_licence_that_the_gate_will_refuse_is_a_problem(project: Paths) -> None:
    assert "licences" not in states(project)  # the settings ask for none
    params = project.params.read_text(encoding="utf-8")
    project.params.write_text(params.replace("licences: null ", "licences: [MIT, Apache-2.0] "), encoding="utf-8")
    assert states(project)["licences"] == ["problem"]
    named = "licence_of: {embedded: mit, mlc.embedded.world: mit, embedded-base: mit} "
    params = project.params.read_text(encoding="utf-8").replace("licence_of: {} ", named)
    project.params.write_text(params, encoding="utf-8")
    assert states(project)["licences"] == ["ok"]


def test_settings_that_are_wrong_end_the_examination(project: Paths) -> None:
    project.params.write_text("languages: 3\n")
    results = states(project)
    assert results["settings"] == ["problem"] and "prompts" not in results and "python" in results


def test_missing_prompts_a_missing_language_and_a_missing_base(project: Paths) -> None:
    (project.data / "tuning.jsonl").unlink()
    rows = [row.model_copy(update={"prompts": {"en": row.prompts["en"]}}) for row in prompts.rows("evaluation")[:4]]
    write_prompts(project.data / "evaluation.jsonl", rows)
    shutil.rmtree(project.root / "embedded-base")
    results = states(project)
    assert results["prompts"] == ["ok", "problem", "problem"] and results["base"] == ["problem"]


def test_a_language_whose_replies_nobody_can_identify_is_named_with_what_to_do(project: Paths) -> None:
    chichewa = "Chonde ndifotokozereni m'mawu ochepa momwe ndingakonzere njinga imene ili kunja kwa nyumba yathu."
    rows = [row.model_copy(update={"prompts": {**row.prompts, "ny": chichewa}}) for row in prompts.rows("evaluation")]
    write_prompts(project.data / "evaluation.jsonl", rows[:20])
    assert states(project)["languages"] == ["ok"]  # nobody asks about Chichewa
    served = project.params.read_text().replace("served: [en, ", "served: [ny, en, ")
    project.params.write_text(served)
    (problem,) = [check for check in doctor.run(project, tries_base=False) if check.name == "languages"]
    assert problem.state == "problem" and "no candidate can pass fidelity in Nyanja" in problem.found
    assert "languages.identification_model, or add ny to languages.unidentified" in problem.found
    project.params.write_text(served.replace("unidentified: []", "unidentified: [ny]"))
    assert states(project)["languages"] == ["warning", "ok"]
    project.params.write_text(served.replace("identification_model: null", "identification_model: lid.bin"))
    (problem,) = [check for check in doctor.run(project, tries_base=False) if check.name == "languages"]
    assert "identification_model = lid.bin: no such file" in problem.found


def test_a_hub_model_that_cannot_be_had_offline(project: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = project.params.read_text().replace("model: embedded-base", "model: nobody/nothing")
    project.params.write_text(text.replace("  revision: null", f"  revision: {'a' * 40}", 1))
    (check,) = connections.hub(load_settings(project.params), project)
    assert check.state == "problem" and "nobody/nothing: not in the cache" in check.found


def test_servers_that_are_away(project: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        checks = [*connections.prefect(project), *connections.tracking(load_settings(project.params), project)]
    assert [check.state for check in checks] == ["problem", "problem"]


class Users(BaseHTTPRequestHandler):
    """Says who may do what, as MLflow's server with users does; one without has no such path."""

    permission: ClassVar[str | None] = None

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        assert path == "/api/3.0/mlflow/users/permissions/get" and "resource_id=mlc-embedded" in query
        self.send_response(404 if self.permission is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"allowed": True, "permission": self.permission}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("permission", "state"), [("EDIT", ["ok"]), ("MANAGE", ["ok"]), ("READ", ["problem"]), (None, [])]
)
def test_a_user_who_may_not_register_is_told(
    monkeypatch: pytest.MonkeyPatch, permission: str | None, state: list[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "amina")
    monkeypatch.setattr(Users, "permission", permission)
    with HTTPServer(("127.0.0.1", 0), Users) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert [check.state for check in connections._may_edit(address, "mlc-embedded")] == state


def test_the_table_says_what_to_do_and_counts() -> None:
    checks = [connections.Check("a", "ok", "fine"), connections.Check("b", "problem", "broken", "mend it")]
    assert doctor.table(checks).splitlines()[-1] == "1 problems, 0 warnings"
    assert "-> mend it" in doctor.table(checks)
