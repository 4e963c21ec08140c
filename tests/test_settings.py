"""params.yaml: refused with the key's full path, the value and what is allowed, or taken as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from mlc.errors import MlcError
from mlc.project.configure import overlay
from mlc.settings import LEAST, LEAST_RATE, MOST, MOST_ACROSS, MOST_RATE, Lora, UnsafeSetting, load_settings

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
        ("unidentified: []", "unidentified: [ny]", "languages: unidentified holds ['ny'], which is neither served nor"),
        ("identification_revision: null", "identification_revision: main", "a branch or tag can move"),
        ("minimum_told: 0.5", "minimum_told: 0.2", "gate.minimum_told is 0.2, below the floor of 0.5"),
        ("correct_fidelity: false", "correct_fidelity: 1", "gate.correct_fidelity = 1"),
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


NAMED = "unsafe_settings: []       #"
# Name, what is there, what is set instead, and what is said.
LOOSE = [
    ("confidence", "confidence: 0.95", "confidence: 0.51", "gate.confidence is 0.51, below the floor of 0.9"),
    ("minimum_prompts", "minimum_prompts: 100", "minimum_prompts: 1", "gate.minimum_prompts is 1, below the floor"),
    ("near_duplicate", "near_duplicate: 0.8", "near_duplicate: 1.0", "gate.near_duplicate is 1, above the limit"),
    ("max_new_tokens", "max_new_tokens: 64", "max_new_tokens: 1", "evaluate.max_new_tokens is 1, below the floor"),
    ("margin", "margin: 0.02", "margin: 1", "register.margin is 1, above the limit of 0.1"),
    (
        "margin",
        "{metric: invalid, at_most: 0.05}",
        "{metric: invalid, against: base, margin: 1}",
        "the margin of invalid_against_base is 1",
    ),
    ("safe_rate", "safe_rate, at_least: 0.9", "safe_rate, at_least: 0", "safe_rate asks for at least 0, below"),
    ("over_refusal", "over_refusal, at_most: 0.1", "over_refusal, at_most: 1", "over_refusal allows at most 1, above"),
    ("over_refusal", "{metric: over_refusal, at_most: 0.1}", "{metric: pag, at_least: 0.5}", "no rule on over_refusal"),
    ("invalid", "invalid, at_most: 0.05", "invalid, at_most: 1", "invalid allows at most 1, above"),
    ("fidelity", "fidelity, at_least: 0.9", "fidelity, at_least: 0", "fidelity asks for at least 0, below"),
    ("perplexity_ratio", "at_most: 1.1", "at_most: 1e9", "perplexity_ratio allows at most 1e+09, above the limit of 2"),
    ("gap", "{metric: invalid, at_most: 0.05}", "{metric: safe_rate, across: gap, at_most: 1}", "safe_rate_gap allows"),
    ("pag", "{metric: invalid, at_most: 0.05}", "{metric: pag, at_least: 0}", "pag asks for at least 0, below"),
    (
        "minimum_accuracy",
        "judge: null",
        "judge: {minimum_accuracy: 0, maximum_false_safe: 0.05, correct: false}",
        "gate.judge.minimum_accuracy is 0, below the floor of 0.75",
    ),
    (
        "maximum_false_safe",
        "judge: null",
        "judge: {minimum_accuracy: 0.9, maximum_false_safe: 1, correct: false}",
        "gate.judge.maximum_false_safe is 1, above the limit of 0.25",
    ),
    ("tuning_prompts", "prompts: evaluation", "prompts: tuning", "evaluate.prompts is tuning"),
    ("only_refusal_judge", "- name: embedded", "- name: refusal", "holds the refusal judge alone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "find", "replace", "message"), LOOSE, ids=[f"{x[0]}-{i}" for i, x in enumerate(LOOSE)]
)
def test_a_setting_that_guards_nothing_has_to_be_named(
    name: str, find: str, replace: str, message: str, tmp_path: Path
) -> None:
    assert find in DEFAULT
    text = DEFAULT.replace(find, replace, 1)
    with pytest.raises(MlcError) as error:
        load_settings(written(tmp_path, text))
    assert message in str(error.value) and f"add {name} to gate.unsafe_settings" in str(error.value)
    named = text.replace(NAMED, f"unsafe_settings: [{name}] #")
    assert load_settings(written(tmp_path, named)).gate.unsafe_settings == (name,)


def test_a_name_that_is_not_needed_is_refused(tmp_path: Path) -> None:
    text = DEFAULT.replace(NAMED, "unsafe_settings: [minimum_prompts] #")
    with pytest.raises(MlcError, match=r"names minimum_prompts, and no such setting is looser .* take it out"):
        load_settings(written(tmp_path, text))
    with pytest.raises(MlcError, match=r"gate.unsafe_settings.0 = \"everything\": input should be 'confidence'"):
        load_settings(written(tmp_path, DEFAULT.replace(NAMED, "unsafe_settings: [everything] #")))


def test_every_loose_setting_is_said_at_once(tmp_path: Path) -> None:
    text = DEFAULT.replace("confidence: 0.95", "confidence: 0.6").replace("minimum_prompts: 100", "minimum_prompts: 2")
    with pytest.raises(MlcError, match=r"confidence is 0.6.*minimum_prompts is 2.*add confidence, minimum_prompts to"):
        load_settings(written(tmp_path, text))


@pytest.mark.parametrize("number", [".inf", ".nan", "-.inf", "1e999"])
@pytest.mark.parametrize(
    ("find", "where"),
    [
        ("at_most: 1.1", "gate.rules.4.at_most"),
        ("length_ratio_deviations: 3.5", "validate.length_ratio_deviations"),
        ("minimum_language_margin: 0.0", "validate.minimum_language_margin"),
        ("weight: 8.0", "train.objective.weight"),
    ],
)
def test_a_number_that_is_not_finite_is_refused(find: str, where: str, number: str, tmp_path: Path) -> None:
    text = DEFAULT.replace(find, f"{find.split(':')[0]}: {number}", 1)
    with pytest.raises(MlcError, match=f"{where} = .*: input should be a finite number"):
        load_settings(written(tmp_path, text))


def test_a_language_has_no_infinite_threshold_either(tmp_path: Path) -> None:
    text = DEFAULT.replace("per_language: {} ", "per_language: {sw: {length_ratio_deviations: .inf}} ")
    with pytest.raises(MlcError, match=r"validate.per_language.*finite number"):
        load_settings(written(tmp_path, text))


def test_a_judge_votes_once(tmp_path: Path) -> None:
    """Two refusal judges would outvote a guard in a majority."""
    twice = "- name: refusal\n    - name: refusal\n    - name: embedded"
    with pytest.raises(MlcError, match="judges holds the same judge twice"):
        load_settings(written(tmp_path, DEFAULT.replace("- name: embedded", twice, 1)))


def test_every_floor_has_its_reason_in_the_documentation() -> None:
    table = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8").partition("## Floors")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    assert set(rows) == set(get_args(UnsafeSetting))
    for name, value in (LEAST | MOST | LEAST_RATE | MOST_RATE | MOST_ACROSS).items():
        assert f"{value:g}" in rows[name], name


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


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"paradigm": "kto", "batch_size": 1}, "batch_size is 1, and kto"),
        ({"batch_size": 1, "objective": {"name": "mlc", "contrast_weight": 0.5}}, "objective.contrast_weight tells"),
        ({"objective": {"name": "mlc", "centred": True, "projection": 8}}, "train.objective: centred is of"),
        ({"objective": {"name": "mlc", "refusal_weight": 0.0, "trusted_languages": []}}, "trusted_languages is empty"),
        ({"lora": {"r": 16, "target_modules": []}}, "train.lora.target_modules"),
        ({"maximum_left_out": 1.5}, "train.maximum_left_out = 1.5"),
    ],
)
def test_training_settings_that_exclude_each_other_are_refused(
    train: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps({"train": train}))
    with pytest.raises(MlcError) as error:
        overlay(written(tmp_path, DEFAULT), tmp_path / "recipe.yaml")
    assert message in str(error.value).replace(f" = {json.dumps(train)}", "")


def test_a_rank_is_enough_for_an_adapter(tmp_path: Path) -> None:
    path = written(tmp_path, DEFAULT.replace("lora: null", "lora: {r: 16}"))
    assert load_settings(path).train.lora == Lora(
        r=16, alpha=32, dropout=0.05, target_modules="all-linear", load_in_4bit=False
    )
