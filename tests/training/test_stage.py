"""The train stage: what it saves is what it trained, it goes on where it stopped, and it refuses unfit prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from tiny_model import write_tiny_base
from transformers import AutoModelForCausalLM

from mlc.errors import MlcError
from mlc.files import sha256_folder, write_json
from mlc.models import manifest
from mlc.models.generation import chat_ids
from mlc.models.loading import load_model
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.settings import Languages, Lora, Settings, load_settings
from mlc.training import candidates, fits_base, stage
from mlc.training.build import build_trainer

ROOT = Path(__file__).parents[2]
LANGUAGES = Languages(source="en", served=("en", "hi"), transfer=())


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path, alignment_rows: list[PromptRow], monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    paths = Paths(tmp_path)
    shutil.copytree(tiny_base, paths.base)
    write_prompts(paths.prompts / "alignment.jsonl", alignment_rows)
    return paths


def settings(objective: dict[str, Any] | None = None, **train: Any) -> Settings:
    whole = load_settings(ROOT / "params.yaml")
    small = {"layer": 1, "trusted_languages": ("en",)} | (objective or {})
    update = {"max_steps": 2, "batch_size": 4, "objective": whole.train.objective.model_copy(update=small)} | train
    return whole.model_copy(update={"train": whole.train.model_copy(update=update)})


def run(paths: Paths, s: Settings) -> None:
    stage.run(LANGUAGES, s.base, s.train, paths)


LORA = Lora(r=2, alpha=4, dropout=0.0, target_modules="all-linear", load_in_4bit=False)
PUBLISHED = {"name": "mlc", "layer": -1, "every": 1, "projection": 8, "refusal_weight": 0.0, "retain_weight": 0.0}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("paradigm", ["dpo", "sft"])
def test_what_is_saved_is_what_was_trained_without_the_head(paths: Paths, lora: Lora | None, paradigm: str) -> None:
    s = settings(PUBLISHED, lora=lora, paradigm=paradigm, learning_rate=1e-2)
    rows = read_prompts(paths.prompts / "alignment.jsonl")
    trainer, tokenizer = build_trainer(rows, LANGUAGES, s.train, paths)
    trainer.train()
    ids = torch.tensor([chat_ids(tokenizer, rows[0].prompts["hi"])])
    with torch.no_grad():
        trained = trainer.model.eval()(ids).logits
        untrained = load_model(paths.base, paths.base, "float32")[0](ids).logits
    candidates.save(trainer, paths.model, tokenizer)
    again = paths.artifacts / "again"
    candidates.save(trainer, again, tokenizer)  # the first left the trainer as it was
    assert sha256_folder(again) == sha256_folder(paths.model)
    assert any("mlc_head" in name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)
    with torch.no_grad():
        saved = load_model(paths.model, paths.base, "float32")[0](ids).logits
    torch.testing.assert_close(saved, trained, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(saved, untrained, atol=1e-3)
    assert (paths.model / "adapter_config.json").exists() == (lora is not None)
    for file in paths.model.glob("*.safetensors"):
        assert b"mlc_head" not in file.read_bytes()[:10_000]
    assert {file.suffix for file in paths.model.iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert not any(str(paths.root) in file.read_text() for file in paths.model.glob("*.json"))


@pytest.mark.parametrize("paradigm", ["dpo", "sft", "orpo", "simpo", "kto"])
def test_an_adapter_trained_over_four_bits_loads_over_the_whole_base(paths: Paths, paradigm: str) -> None:
    shutil.rmtree(paths.base)
    write_tiny_base(paths.base, width=64)  # as many as bitsandbytes puts into a block, which some processors need
    lora = LORA.model_copy(update={"load_in_4bit": True})
    # Much is learnt, whatever the processor rounds.
    s = settings(PUBLISHED, lora=lora, paradigm=paradigm, learning_rate=3e-2)
    rows = read_prompts(paths.prompts / "alignment.jsonl")
    trainer, tokenizer = build_trainer(rows, LANGUAGES, s.train, paths)
    assert {p.dtype for name, p in trainer.model.named_parameters() if "mlp" in name and "lora" not in name} == {
        torch.uint8
    }
    trainer.train()
    candidates.save(trainer, paths.model, tokenizer)
    ids = torch.tensor([chat_ids(tokenizer, rows[0].prompts["hi"])])
    with torch.no_grad():
        held_small = trainer.model.eval()(ids).logits.float()
        whole, before = (
            load_model(folder, paths.base, "float32")[0](ids).logits for folder in (paths.model, paths.base)
        )
    assert not torch.allclose(whole, before, atol=1e-3)
    # Four bits are coarse, yet what was learnt is far more than what they lose.
    assert (whole - held_small).norm() < 0.5 * (whole - before).norm()


def test_a_run_leaves_model_log_metrics_and_an_ended_run(paths: Paths) -> None:
    run(paths, settings())
    model_manifest = json.loads((paths.candidate(2) / "manifest.json").read_text())
    assert model_manifest["parameters"]["train"]["objective"]["name"] == "direction"
    header = (paths.training / "log.csv").read_text().splitlines()[0].split(",")
    assert header[0] == "step" and {"loss", "mlc/loss", "mlc/refusal", "mlc/retain"} <= set(header)
    assert json.loads((paths.training / "metrics.json").read_text())["mlc/loss"] >= 0
    run_id = json.loads((paths.training / "mlflow_run.json").read_text())["run_id"]
    mlflow_run = MlflowClient(f"sqlite:///{paths.root}/mlflow/mlflow.db").get_run(run_id)
    assert mlflow_run.info.status == "FINISHED" and mlflow_run.data.params["train.objective.weight"] == "8.0"
    assert not paths.checkpoints.exists()


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(
    paths: Paths, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    s = settings(max_steps=4, save_steps=2, candidate_steps=1)
    whole = Paths(tmp_path_factory.mktemp("whole"))
    shutil.copytree(paths.artifacts, whole.artifacts)
    run(whole, s)

    class Stop(stage.TrackingCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(stage, "TrackingCallback", Stop)
        with pytest.raises(KeyboardInterrupt):
            run(paths, s)
    assert not paths.candidates.exists()
    (paths.checkpoints / "candidates" / ".step-3.1.partial").mkdir()  # a kill can leave one
    run(paths, s)
    assert "going on from" in capsys.readouterr().out
    assert {folder.name for folder in paths.candidates.iterdir()} == {"step-1", "step-2", "step-3", "step-4"}
    assert paths.candidate_steps() == whole.candidate_steps() == [1, 2, 3, 4]
    ids = set()
    for step in paths.candidate_steps():
        one, two = (load_model(p.candidate(step), p.base, "float32")[0].state_dict() for p in (whole, paths))
        for name in one:
            torch.testing.assert_close(one[name], two[name], msg=name)
        model_manifest = manifest.verify(paths.candidate(step))
        assert model_manifest.step == step
        ids.add(model_manifest.files["model.safetensors"])
    assert len(ids) == 4


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_candidates_on_the_way_do_not_change_where_it_leads(
    paths: Paths, tmp_path_factory: pytest.TempPathFactory, lora: Lora | None
) -> None:
    alone = Paths(tmp_path_factory.mktemp("alone"))
    shutil.copytree(paths.artifacts, alone.artifacts)
    run(paths, settings(PUBLISHED, max_steps=3, lora=lora, candidate_steps=1))
    run(alone, settings(PUBLISHED, max_steps=3, lora=lora))
    assert alone.candidate_steps() == [3] and paths.candidate_steps() == [1, 2, 3]
    one, two = (load_model(p.candidate(3), p.base, "float32")[0].state_dict() for p in (paths, alone))
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_unfit_prompts_are_refused(paths: Paths, alignment_rows: list[PromptRow]) -> None:
    write_prompts(
        paths.prompts / "alignment.jsonl",
        [row.model_copy(update={"chosen": None, "rejected": None}) for row in alignment_rows],
    )
    with pytest.raises(MlcError, match="no alignment prompt has 'chosen' and 'rejected'"):
        run(paths, settings())
    write_prompts(paths.prompts / "alignment.jsonl", [row for row in alignment_rows if row.intent == "harmful"])
    with pytest.raises(MlcError, match="compares harmful with benign prompts, and all are harmful"):
        run(paths, settings())


def test_an_adapter_on_an_embedding_that_is_the_output_layer_too_is_refused(paths: Paths) -> None:
    for target in ("embed_tokens", "lm_head"):
        lora = LORA.model_copy(update={"target_modules": ("q_proj", target)})
        with pytest.raises(
            MlcError, match=rf"train\.lora\.target_modules holds {target}, .* one \(tie_word_embeddings\)"
        ):
            run(paths, settings(PUBLISHED, lora=lora))
    assert not paths.candidates.exists()
    model = AutoModelForCausalLM.from_pretrained(paths.base)
    fits_base.check_adapter(model, LORA, "orpo")
    fits_base.check_adapter(model, LORA.model_copy(update={"target_modules": ("q_proj", "down_proj")}), "orpo")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    fits_base.check_adapter(model, LORA.model_copy(update={"target_modules": ("q_proj", "embed_tokens")}), "orpo")


def test_measured_trusted_languages_are_those_that_were_measured(paths: Paths) -> None:
    s = settings({"trusted_languages": "auto"})
    with pytest.raises(MlcError, match="mlc trusted-languages"):
        run(paths, s)
    evidence = {tag: {"value": 1.0, "bound": 0.95, "n": 100, "passed": tag == "en"} for tag in ("en", "hi")}
    write_json(paths.trusted_languages, {"trusted": ["en"], "how": "measured", "evidence": evidence})
    run(paths, s)
    model_manifest = json.loads((paths.candidate(2) / "manifest.json").read_text())
    assert model_manifest["parameters"]["train"]["objective"]["trusted_languages"] == ["en"]
