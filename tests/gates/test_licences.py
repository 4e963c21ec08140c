"""What a model is made and judged with is under an allowed licence, or it does not pass; unknown is never allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from mlc import cli
from mlc.errors import MlcError
from mlc.files import write_json
from mlc.gates.licences import cannot_pass, check, found, licence_results
from mlc.gates.verdict import Licensed
from mlc.paths import Paths
from mlc.prompts.schema import Origin, PromptRow, Provenance, write_prompts
from mlc.settings import GuardJudge, LlmJudge, RefusalJudge, Settings, load_settings

ROOT = Path(__file__).parents[2]
HASH = "0" * 64


def row(number: int, licence: str | None = "mit", source: str = "a set", **by: Provenance) -> PromptRow:
    return PromptRow(
        id=f"r{number}",
        source=source,
        category="home",
        intent="benign",
        prompts={"en": f"mend bicycle {number}", **dict.fromkeys(by, "…")},
        provenance={"en": Provenance(translator=source), **by},
        origin=Origin(licence=licence, sha256=HASH),
    )


NLLB = Provenance(translator="nllb", version="1", licence="CC-BY-NC-4.0")
PERSON = Provenance(translator="human")


def project(root: Path, alignment: list[PromptRow], card: str = "---\nlicense: apache-2.0\n---\n") -> Paths:
    """Clean prompts, and a base with its card."""
    paths = Paths(root)
    write_prompts(paths.prompts / "alignment.jsonl", alignment)
    write_prompts(paths.prompts / "evaluation.jsonl", [row(100)])
    paths.base.mkdir(parents=True)
    (paths.base / "README.md").write_text(card)
    return paths


def settings(root: Path, **gate: Any) -> Settings:
    """The default settings, with the licences that the gate is to have."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["gate"] |= gate
    yaml.dump(content, root / "params.yaml")
    return load_settings(root / "params.yaml")


def test_rows_translators_base_and_judges_are_listed_with_what_they_name(tmp_path: Path) -> None:
    rows = [
        row(0, sw=NLLB, bn=PERSON),
        row(1, "MIT", sw=NLLB),  # the same licence, spelled otherwise
        row(2, None, sw=Provenance(translator="gpt", version="x")),
        row(3, source="their set").model_copy(update={"origin": None, "provenance": {}}),
    ]
    paths = project(tmp_path, rows)
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "README.md").write_text("---\nlicense: llama3.1\n---\n")
    llm = LlmJudge.model_validate(
        {"name": "llm", "base_url": "http://h/v1", "model": "judge-1", "key_variable": None, "concurrency": 1}
        | {"timeout": 1.0, "attempts": 1}
    )
    guards = [
        GuardJudge(name="guard", format="qwen3guard", model=model, revision=None) for model in ("guard", "org/guard")
    ]
    items = found("org/base", [RefusalJudge(name="refusal"), *guards, llm], "evaluation", paths)
    assert [(i.kind, i.name, i.licence, i.texts) for i in items] == [
        ("rows", "a set", None, {"alignment": 1}),
        ("rows", "a set", "MIT", {"alignment": 2, "evaluation": 1}),
        ("rows", "their set", None, {"alignment": 1}),
        ("translator", "gpt", None, {"alignment": 1}),
        ("translator", "nllb", "CC-BY-NC-4.0", {"alignment": 2}),
        ("base", "org/base", "Apache-2.0", {}),
        ("judge", "mlc's refusal judge", "Apache-2.0", {}),
        ("judge", "guard", "LicenseRef-llama3.1", {}),
        ("judge", "org/guard", None, {}),
        ("judge", "judge-1", None, {}),
    ]


def item(licence: str | None, name: str = "org/base") -> Licensed:
    return Licensed(kind="base", name=name, licence=licence, texts={})


@pytest.mark.parametrize(
    ("licence", "named", "passes"),
    [
        ("MIT", {}, True),
        ("CC-BY-NC-4.0", {}, False),
        (None, {}, False),
        (None, {"another": "MIT"}, False),
        (None, {"org/base": "mit"}, True),  # somebody says so, and the verdict keeps it
        ("CC-BY-NC-4.0", {"org/base": "LicenseRef-bought"}, True),
        ("MIT", {"org/base": "GPL-3.0-only"}, False),
        ("MIT AND Apache-2.0", {}, True),
        ("MIT AND GPL-3.0-only", {}, False),
        ("MIT OR GPL-3.0-only", {}, False),  # nobody has said which
        ("MIT WITH LLVM-exception", {}, False),  # a licence of its own
    ],
)
def test_what_is_under_another_licence_or_an_unknown_one_fails(
    licence: str | None, named: dict[str, str], passes: bool, tmp_path: Path
) -> None:
    gate = settings(tmp_path, licences=["mit", "Apache-2.0", "LicenseRef-bought"], licence_of=named).gate
    (result,) = licence_results([item(licence)], gate)
    assert (result.rule, result.passed, result.language, result.n) == ("licences", passes, None, 1)
    assert result.reason is None if passes else "1 of 1 are not under one of gate.licences (MIT," in str(result.reason)


def test_without_the_setting_there_is_no_rule_and_without_a_record_it_fails(tmp_path: Path) -> None:
    assert licence_results([item(None)], settings(tmp_path).gate) == []
    (result,) = licence_results([], settings(tmp_path, licences=["MIT"]).gate)
    assert not result.passed and "were not written down" in result.sentence


def test_a_failure_names_what_it_is_about_and_what_to_do(tmp_path: Path) -> None:
    gate = settings(tmp_path, licences=["MIT"]).gate
    rows = Licensed(kind="rows", name="PKU\x1b[2J", licence="CC-BY-NC-4.0", texts={"alignment": 1200, "tuning": 3})
    others = [item(None, f"base {n}") for n in range(7)]
    (result,) = licence_results([rows, item("MIT"), *others], gate)
    assert (result.n, result.hits, result.value) == (9, 8, 8 / 9)
    assert result.sentence.startswith("licences: 8 of 9 are not under one of gate.licences (MIT): ")
    assert r"the rows of PKU\x1b[2J are under CC-BY-NC-4.0 (1,200 in alignment, 3 in tuning)" in result.sentence
    assert "the licence of the base base 0 is unknown; " in result.sentence and "and 3 more. " in result.sentence
    assert "name an unknown licence in gate.licence_of" in result.sentence


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"licences": ["mit", "llama3"]}, r"gate\.licences\.1 = \"llama3\": 'llama3' is no SPDX identifier"),
        ({"licences": ["MIT OR Apache-2.0"]}, r"gate\.licences\.0 .* holds several licences: list each by itself"),
        ({"licences": []}, r"gate\.licences = \[\]: .* at least 1"),
        ({"licence_of": {"org/base": "none at all"}}, r"gate\.licence_of\.org/base .* such as LicenseRef-none-at-all"),
    ],
)
def test_a_licence_that_there_is_not_is_refused_with_the_settings(
    gate: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MlcError, match=message):
        settings(tmp_path, **gate)


def test_what_cannot_pass_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = project(tmp_path, [row(0, sw=NLLB)])
    allowed = {"licences": ["MIT", "Apache-2.0"]}
    refused = settings(tmp_path, **allowed)
    with pytest.raises(
        MlcError, match=r"^no candidate can pass the gate: licences: 1 of 4 .* translations by nllb are"
    ):
        check(refused, paths)
    monkeypatch.chdir(tmp_path)
    for command in (["gate", "check"], ["gate", "plan"]):
        done = CliRunner().invoke(cli.app, command)
        assert "the translations by nllb are under CC-BY-NC-4.0 (1 in alignment)" in f"{done.output}{done.exception}"
    check(settings(tmp_path, licences=[*allowed["licences"], "CC-BY-NC-4.0"]), paths)
    check(settings(tmp_path), paths)  # off by default
    # Before anything is validated or fetched, by what is there: the prompts as they came, and no word about the base.
    paths.prompts.rename(paths.data)
    paths.base.rename(tmp_path / "gone")
    assert "1 of 3 " in cannot_pass(refused, paths)[0]
    (paths.data / "alignment.jsonl").unlink()
    assert cannot_pass(refused, paths) == []
    write_json(tmp_path / "embedded-base" / "config.json", {})  # a folder of the project, without a card
    assert "the licence of the base embedded-base is unknown" in cannot_pass(refused, paths)[0]
