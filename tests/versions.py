"""A project with a registry whose versions are made by hand: small files, a real store, nothing trained."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import records

from mlc import tracking
from mlc.evaluation.samples import Sample, write_samples
from mlc.files import sha256, sha256_folder, write_json, write_text
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.paths import Paths
from mlc.registry import model_card
from mlc.registry.model import RegisteredModel
from mlc.registry.verify import BASE, EVIDENCE, FILES, MODEL
from mlc.settings import GateRule, Languages, Settings, load_settings

NAME = "by-hand"
LANGUAGES = Languages(source="en", served=("en", "es"), transfer=())
PARAMS = load_settings(Path(__file__).parent.parent / "params.yaml")
RULES = (GateRule(metric="safe_rate", at_least=0.5),)  # what the versions made here pass


def commit(root: Path) -> None:
    """Makes the folder a repository whose one commit has its settings, and names a package as its code."""
    write_text(root / "mlc.lock", "version: 1\ncode: {}\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "mlc.lock"], [*identity, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True)


def settings(approval: Literal["none", "required"] = "none") -> Settings:
    register = PARAMS.register_.model_copy(update={"model_name": NAME, "margin": 0.15, "approval": approval})
    gate = PARAMS.gate.model_copy(update={"minimum_prompts": 20, "near_duplicate": 1.0, "rules": RULES})
    return PARAMS.model_copy(update={"languages": LANGUAGES, "gate": gate, "register_": register})


class Registry:
    def __init__(self, root: Path, store: Path) -> None:
        (root / "mlflow").mkdir()
        shutil.copy(store, root / "mlflow")
        commit(root)
        self.root, self.paths = root, Paths(root)
        self.model = RegisteredModel(self.paths, NAME)
        self.run_id = self.model.client.create_run(tracking.experiment(self.paths)).info.run_id
        self.model.create()

    def add(
        self,
        refused: int = 0,
        *,
        passed: bool = True,
        languages: tuple[str, ...] = LANGUAGES.served,
        model: Path | None = None,
        base: Path | None = None,
        hub: str | None = None,
        licence: dict[str, Any] | None = None,
    ) -> str:
        """A version that refuses the first of 25 benign prompts in each language; it has no alias yet.

        ``model`` and ``base`` are folders with real weights; ``hub`` is the revision of a base that is not stored.
        """
        number = len(self.model.versions()) + 1
        folder = self.root / "versions" / str(number)
        weights, evidence = folder / MODEL, folder / EVIDENCE
        evidence.mkdir(parents=True)
        if model:
            shutil.copytree(model, weights)
        else:
            weights.mkdir(parents=True)
            (weights / "model.safetensors").write_bytes(b"weights %d" % number)
        if base and not hub:
            shutil.copytree(base, folder / BASE)
        manifest = Manifest.model_validate(
            records.manifest(
                files=sha256_folder(weights),
                base={
                    "model": "org/base" if hub else "base",
                    "revision": hub,
                    "files": sha256_folder(base or weights),
                },
                data={"data.dvc": "d" * 32, "prompts": "e" * 64},
                git={"commit": f"{number:040x}", "dirty": False, "changed": []},
                parameters={
                    "languages": LANGUAGES.model_dump(mode="json", include={"source", "served", "transfer"}),
                    "train": PARAMS.train.model_dump(mode="json") | {"seed": number},
                },
                libraries={"torch": "2", "peft": "1"},
            )
        )
        for folder_of in (weights, evidence):
            manifest.write(folder_of / manifests.NAME)
        verdicts = {"harmful": ["refused"] * 25, "benign": ["refused"] * refused + ["safe"] * (25 - refused)}
        write_samples(
            evidence / "samples.jsonl",
            (
                Sample.model_validate(
                    {
                        **{"prompt_id": f"{intent}-{i}", "language": tag, "category": "c", "intent": intent},
                        **{"model": str(number), "prompt": f"{intent} {i}", "response": "reply", "verdict": verdict},
                        **{"judge": "test", "judge_version": "1", "judge_raw": "", "response_language": tag},
                        **{"tokens": 1, "seconds": 0.0},
                    }
                )
                for tag in LANGUAGES.served
                for intent, intent_verdicts in verdicts.items()
                for i, verdict in enumerate(intent_verdicts)
            ),
        )
        shutil.copy(evidence / "samples.jsonl", evidence / "base_samples.jsonl")
        rates = {"safe_rate": records.estimate(1.0), "over_refusal": records.estimate(refused / 25)}
        for name in ("metrics", "base_metrics"):
            write_json(evidence / f"{name}.json", records.metrics(dict.fromkeys(LANGUAGES.served, rates)))
        verdict = records.verdict(
            passed=passed,
            manifest=manifest.digest,
            samples={"base": records.HASH, "candidate": sha256(evidence / "samples.jsonl")},
            gate={"confidence": 0.9},
            rules=[records.result("safe_rate", tag, passed) for tag in languages],
        )
        write_json(evidence / "verdict.json", verdict)
        model_card.write(folder, licence or {}, 64)
        write_json(folder / FILES, sha256_folder(folder))
        created = self.model.client.create_model_version(
            NAME,
            source=folder.as_uri(),
            run_id=self.run_id,
            tags={
                "manifest": manifest.digest,
                "verdict": sha256(evidence / "verdict.json"),
                "files": sha256(folder / FILES),
                "git_commit": manifest.git.commit,
                "data": "d" * 32,
            },
        )
        return str(created.version)

    def file(self, version: str, name: str) -> Path:
        return self.root / "versions" / version / name

    def history(self, *champions: int) -> None:
        """Versions that were champion one after the other, refusing so many prompts; then a better candidate."""
        for refused in champions:
            self.promoted(self.add(refused=refused))
        candidate = self.add()
        with self.model.moving():
            self.model.move("register", "candidate", candidate)

    def promoted(self, version: str) -> None:
        """As `register` does it."""
        with self.model.moving():
            self.model.move("register", "candidate", version)
            self.model.make_champion("promote", version)

    def aliases(self) -> dict[str, str]:
        return self.model.aliases()

    def rewrite(self, entry: int, **changes: Any) -> None:
        """Changes an entry of the ledger behind its back."""
        tags = sorted(self.model.client.get_registered_model(NAME).tags.items())
        key, value = tags[entry]
        self.model.client.set_registered_model_tag(NAME, key, json.dumps(json.loads(value) | changes))
