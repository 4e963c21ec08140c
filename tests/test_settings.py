"""params.yaml: refused with the key's full path, the value and what is allowed, or taken as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlc.errors import MlcError
from mlc.project.configure import overlay
from mlc.settings import load_settings

ROOT = Path(__file__).parents[1]
DEFAULT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_valid_and_frozen() -> None:
    settings = load_settings(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        settings.train.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("find", "replace", "message"),
    [
        ("    hinge: ", "    hing: ", "train.objective.hing is not a setting"),
        ("languages: auto", "languages: [en, 3]", "trusted_languages.1 = 3: input should be a valid string"),
        ("languages: auto", "languages: atuo", "trusted_languages = \"atuo\": input should be 'auto'"),
        ("every: 1", "every: 0", "train.objective.every = 0: input should be greater than or equal to 1"),
        ("seed: 0", 'seed: "0"', 'train.seed = "0": input should be a valid integer'),
        (
            "paradigm: dpo",
            "paradigm: ppo",
            "train.paradigm = \"ppo\": input should be 'dpo', 'sft', 'orpo', 'simpo' or 'kto'",
        ),
        ("confidence: 0.95", "confidence: 95", "gate.confidence = 95: input should be less than 1"),
        ("served: [en, ", "served: [", "languages: the source language 'en' has to be among the served ones"),
        ("transfer: [bn]", "transfer: [en]", "languages: a language is listed twice"),
        ("transfer: [bn]", "transfer: [xx-nonsense-]", "is not a BCP-47 language tag"),
        ("transfer: [bn]", "transfer: [zh-hant]", "write 'zh-Hant'"),
        ("name: embedded", "name: guard", "evaluate.judges.0.guard.model is missing"),
        ("name: embedded", "name: oracle", "evaluate.judges.0: input tag 'oracle'"),
        ("judges:\n    - name: embedded", "judges: [] #", "evaluate: judges is empty"),
        ("minimum_languages: 2", "minimum_languages: 9", "minimum_languages is 9, and languages.served holds 8"),
        ("languages:", "languages: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(find: str, replace: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, DEFAULT.replace(find, replace, 1))
    with pytest.raises(MlcError) as error:
        load_settings(path)
    assert message in str(error.value)


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, DEFAULT.replace("seed: 0", "seed: -1").replace("beta: 0.1", "beta: 0"))
    with pytest.raises(MlcError, match=r"train\.seed = -1[^\n]*\n[^\n]*train\.beta = 0"):
        load_settings(path)


def test_trusted_languages_are_needed_and_served(tmp_path: Path) -> None:
    trusted = next(line for line in DEFAULT.splitlines() if "trusted_languages" in line)
    for value, message in (("[]", "trusted_languages is empty"), ("[bn]", "which languages.served does not")):
        path = written(tmp_path, DEFAULT.replace(trusted, f"    trusted_languages: {value}"))
        with pytest.raises(MlcError, match=message):
            load_settings(path)


def test_trusted_languages_may_be_named(tmp_path: Path) -> None:
    text = DEFAULT.replace("trusted_languages: auto", "trusted_languages: [en, sw]")
    assert load_settings(written(tmp_path, text)).train.objective.trusted_languages == ("en", "sw")


def test_a_missing_file_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=r"run mlc in the folder that holds params\.yaml"):
        load_settings(tmp_path / "params.yaml")


def test_numbers_and_tags_are_yaml_1_2(tmp_path: Path) -> None:
    """PyYAML reads 1e-4 as a string and the language tag ``no`` as false."""
    text = DEFAULT.replace("transfer: [bn]", "transfer: [no]").replace("beta: 0.1", "beta: 1e-1")
    settings = load_settings(written(tmp_path, text))
    assert settings.languages.transfer == ("no",)
    assert settings.train.beta == 0.1


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_the_default(recipe: Path, tmp_path: Path) -> None:
    path = written(tmp_path, DEFAULT)
    overlay(path, recipe)
    assert load_settings(path) != load_settings(ROOT / "params.yaml")
    assert "# " in path.read_text(encoding="utf-8")


def test_a_recipe_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, DEFAULT)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {seed: -1}\n")
    with pytest.raises(MlcError, match=r"train\.seed = -1"):
        overlay(path, recipe)
    assert path.read_text(encoding="utf-8") == DEFAULT


@pytest.mark.parametrize("name", ["mlc-embedded", "a b (2)", "x.y_z+1", "हिन्दी", "模型-1", "a" * 200])
def test_names_that_the_registry_takes(tmp_path: Path, name: str) -> None:
    assert load_settings(_named(tmp_path, name)).register_.model_name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a/b",
        "it's",
        "a:b",
        'a"b',
        "a`b",
        "a@b",
        "a#b",
        "a?b",
        "a%b",
        "a\\b",
        "a\nb",
        "a\x1b",
        "a ",
        "..",
        "a" * 201,
    ],
)
def test_names_that_the_registry_refuses_are_refused_before_training(tmp_path: Path, name: str) -> None:
    with pytest.raises(MlcError, match=r"register\.model_name = "):
        load_settings(_named(tmp_path, name))


def _named(folder: Path, name: str) -> Path:
    line = "  model_name: mlc-embedded"
    assert line in DEFAULT
    return written(folder, DEFAULT.replace(line, f"  model_name: {json.dumps(name)}"))
