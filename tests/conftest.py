"""What tests share. The environment is set before any library is imported: nothing phones home, two cores do."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

for name, value in {
    "DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1" if "PYTEST_XDIST_WORKER" in os.environ else "2",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole pipeline first: it takes minutes, and one process must not be left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of 32 dimensions; see ``write_tiny_base``."""
    from tiny_model import write_tiny_base

    folder = tmp_path_factory.mktemp("tiny") / "base"
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="session")
def thinking_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that thinks before it replies; see ``write_thinking_base``."""
    from tiny_model import write_thinking_base

    folder = tmp_path_factory.mktemp("thinking") / "base"
    write_thinking_base(folder)
    return folder


@pytest.fixture(scope="session")
def base_without_pad_token(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, and no pad token in its tokenizer or settings, as Llama 3, Mistral and GPT-2 have none."""
    folder = tmp_path_factory.mktemp("no-pad") / "base"
    shutil.copytree(tiny_base, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in settings.items() if not k.startswith("pad_token")}))
    return folder


@pytest.fixture
def tiny(tiny_base: Path) -> tuple[Any, Any]:
    """The tiny base, loaded: model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_base).eval(), AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture(scope="session")
def alignment_rows() -> list[Any]:
    """Sixteen alignment rows of the embedded world, harmful and benign in turn."""
    from mlc.embedded.prompts import rows

    return rows("alignment")[:16]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes seconds, copying it does not."""
    from mlc import tracking
    from mlc.paths import Paths

    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking.client(Paths(root)).search_registered_models()
    return root / "mlflow" / "mlflow.db"
