"""The report: right words, a mark for every model and language, and nothing in it that runs or loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import pytest
import records
import vl_convert

from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.evaluation.samples import read_samples, write_samples
from mlc.files import JsonFile, sha256_json, write_json
from mlc.gates.verdict import Verdict
from mlc.paths import ROLES, Paths
from mlc.registry.registration import Registration
from mlc.report import drawing, examples, rates, registry, stage, verdict
from mlc.text import LONGEST_ON_PAGE, on_page
from report.project import (
    BENIGN,
    FAILED,
    HARMFUL,
    LANGUAGES,
    MANIFEST,
    PASSED,
    PROMOTED,
    REJECTED,
    RULE,
    TIE,
    TIED,
    WORSE,
    all_samples,
    judged,
    metrics,
    project,
)

File = TypeVar("File", bound=JsonFile)
VOID = {"meta", "br", "link", "img", "input"}


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[None]:
    """A chart that was drawn for one test is not drawn again for the next."""
    drawings: dict[str, str] = {}
    convert = vl_convert.vegalite_to_svg

    def once(spec: Any, **settings: Any) -> str:
        key = repr(spec)
        if key not in drawings:
            drawings[key] = convert(spec, **settings)
        return drawings[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing.vl_convert, "vegalite_to_svg", once)
        yield


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return project(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return build_page(project(tmp_path_factory.mktemp("project")))


class Page(HTMLParser):
    """What a browser makes of the page: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing: the page is not well-formed"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return " ".join(text for _, text in self.texts)


def parsed(kind: type[File], content: dict[str, Any]) -> File:
    return kind.model_validate_json(json.dumps(content))


def build_page(paths: Paths) -> Page:
    stage.run(LANGUAGES, paths)
    page = Page((paths.report / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_verdict_comes_first(page: Page) -> None:
    body = [text for tag, text in page.texts if tag not in {"title", "style", "script"}]
    rate = metrics("candidate").languages["ar"]["safe_rate"]
    ends = f"[{100 * rate['low']:.1f}–{100 * rate['high']:.1f}%]"
    assert body[0] == f"Not promoted: safe rate in Arabic 83.3% {ends}, at least 85%, and 1 more"
    assert {*FAILED["failed"], *FAILED["notes"], "It was not registered. Champion is still version 2."} <= set(body)
    assert "Settings looser than their floor (gate.unsafe_settings): minimum_prompts" in body
    assert "50 harmful prompts, 48 of them different" in body
    assert len(page.all("h1")) == 1


def test_a_promotion_names_the_version(paths: Paths) -> None:
    judged(paths, PASSED, PROMOTED)
    assert ("h1", "Promoted: version 3 is champion") in build_page(paths).texts


def test_a_tie_says_what_stays_and_why(paths: Paths) -> None:
    judged(paths, PASSED, {**TIE, "comparison": [TIED, WORSE]})
    page = build_page(paths)
    assert ("h1", "Not promoted: no better than champion version 2") in page.texts
    for expected in (
        "The candidate is version 3 of a-model. Champion is still version 2.",
        *("Against the champion", "safe rate difference", "-12.5%", "at least -2%", "worse", "better somewhere"),
    ):
        assert expected in page.text()


def test_a_failed_gate_is_not_promoted_whatever_an_older_registration_says() -> None:
    assert verdict.headline(parsed(Verdict, FAILED), parsed(Registration, PROMOTED), metrics("candidate")).startswith(
        "Not promoted"
    )


def test_the_rule_that_failed_by_most_is_the_headline() -> None:
    near = {**RULE, "bound": 0.84, "language": "en"}
    failed = parsed(Verdict, {**FAILED, "rules": [near, RULE]})
    nothing = parsed(Metrics, records.metrics({}))
    headline = verdict.headline(failed, parsed(Registration, REJECTED), nothing)
    assert headline == "Not promoted: safe rate in Arabic: 83.3% (bound 41.0%), at least 85% needed, and 1 more"


def marks(page: Page, chart: str) -> list[str]:
    """What the marks of a chart say of themselves."""
    drawing = page.html.split(f'<svg id="{chart}"')[1].split("</svg>")[0]
    shapes = [attributes for name, attributes in Page(f"<svg{drawing}</svg>").elements if name in {"path", "line"}]
    return [a["aria-label"] or "" for a in shapes if a.get("role") == "graphics-symbol" and "aria-label" in a]


def test_every_language_has_its_marks(page: Page) -> None:
    for group, tags in (("served", LANGUAGES.served), ("transfer", LANGUAGES.transfer)):
        for rate in ("safe_rate", "over_refusal"):
            chart_marks = marks(page, f"{group}-{rate}")
            for role in ROLES:
                for tag in tags:
                    assert sum(mark.startswith(f"{drawing.label(tag)}, {role}: ") for mark in chart_marks) == 1
    assert not any("(bn)" in mark for mark in marks(page, "served-safe_rate"))
    assert "limit 85.0%" in marks(page, "served-safe_rate")
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        ("trade-off", 4),
        ("categories-harmful", 3),
        ("categories-benign", 3),
        ("agreement-harmful-base", 2),
        ("agreement-benign-candidate", 2),
        ("spectrum0", 4),
        ("spectrum1", 4),
        ("map-language", 8),
        ("map-intent", 8),
        ("curve-paradigm", 2),
        ("curve-mlc", 2),
        ("curve-total", 2),
    ],
)
def test_every_chart_has_its_marks(page: Page, chart: str, expected: int) -> None:
    data_marks = [mark for mark in marks(page, chart) if "legend" not in mark and "axis" not in mark]
    assert len(data_marks) == expected


def test_the_paradigm_loss_is_what_the_weighted_terms_leave(page: Page) -> None:
    assert marks(page, "curve-paradigm") == ["step 1, DPO loss: 0.5", "step 2, DPO loss: 1.25"]


def test_a_language_without_samples_says_so(paths: Paths) -> None:
    known = {tag: rates for tag, rates in metrics("candidate").languages.items() if tag != "bn"}
    without = metrics("candidate").model_copy(update={"languages": known})
    without.write(paths.evaluation("candidate") / "metrics.json")
    lines = [line for line in all_samples("candidate") if line.language != "bn"]
    write_samples(paths.evaluation("candidate") / "samples.jsonl", lines)
    judged(paths, FAILED, REJECTED)
    page = build_page(paths)
    assert "candidate: no samples" in page.text()
    assert any(mark.startswith("Bangla (bn), base: safe rate") for mark in marks(page, "transfer-safe_rate"))
    assert "No prompt of this language was answered by both models." in page.text()


def test_a_mark_lies_where_its_value_is() -> None:
    def x(value: float) -> float:
        estimate = {"n": 9, "value": value, "low": value, "high": value}
        chart = rates.rate_chart("c", "Rate", ["en"], {"base": {"en": estimate}, "candidate": {}}, None, "higher")
        mark = next(part for part in chart.split("<path") if "English (en), base: rate" in part)
        return float(mark.split('transform="translate(')[1].split(",")[0])

    assert x(0.5) - x(0.0) == pytest.approx(x(1.0) - x(0.5), abs=0.01)
    assert x(1.0) > x(0.0)


def test_roles_differ_in_shape_too() -> None:
    assert len(set(drawing.ROLE_SHAPES.values())) == len(drawing.ROLE_SHAPES) == 3


def test_the_champion_is_drawn_when_there_is_one(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "champion", lambda *_: (metrics("base"), "Champion is version 2."))
    page = build_page(paths)
    assert "Champion is version 2." in page.text()
    assert sum(", champion: " in mark for mark in marks(page, "served-safe_rate")) == 2


def test_without_a_registry_the_champion_is_absent_and_that_is_said(page: Page, paths: Paths) -> None:
    assert "Champion version 2 is not shown: there is no model registry here." in page.text()
    champion, why = registry.champion(parsed(Registration, {**PROMOTED, "previous": None}), paths)
    assert champion is None
    assert why.startswith("There was no champion before this candidate")


def test_judge_changes_choices_and_selection_are_there(page: Page) -> None:
    for expected in (
        *("Is the judge right?", "Unsafe taken for safe", "86.8–99.9"),
        *("▲ better", "▼ worse", "no more than chance"),
        *("Which checkpoint", "step 80: passes all rules", "Is it still useful?"),
    ):
        assert expected in page.text()


def test_what_was_not_measured_is_said(paths: Paths) -> None:
    paths.calibration.unlink()
    write_json(paths.diagnostics / "representations.json", {"skipped": "one served language"})
    (paths.selection / "metrics.json").unlink()
    (paths.diagnostics / "choices.json").unlink()
    text = build_page(paths).text()
    for expected in ("Not measured:", "Not shown: one served language."):
        assert expected in text
    assert "Which checkpoint" not in text


def test_every_rule_every_rate_and_the_lineage_are_there(page: Page) -> None:
    text = page.text()
    for expected in (
        *("safe rate", "41.0%", "at least 85%", "✗ fail", "Arabic (ar)"),
        *("mean", "worst", "gap", "variance", "Pairwise agreement (PAG)", "7.250"),
        *("Language fidelity", "Refusal fidelity", "Invalid", "Perplexity"),
        *("f" * 40, "c" * 32, "e" * 64, "embedded-base", "2.13.0", "train.objective.weight"),
        *("dvc pull", "dvc repro", "MLC terms", "grad_norm"),
        *("31 expectations, 0 failed", "alignment: 11 of 12 rows clean", "script share: 1, duplicate of: 1"),
    ):
        assert expected in text


def test_one_language_agrees_with_nothing(page: Page) -> None:
    assert page.text().count("Pairwise agreement (PAG)") == len(ROLES)


def test_a_dirty_tree_is_said_where_the_commit_is_given(paths: Paths) -> None:
    git = {"commit": "f" * 40, "dirty": True, "changed": ["mlc/gates.py"]}
    manifest = {**MANIFEST, "git": git}
    write_json(paths.model / "manifest.json", manifest)
    judged(paths, {**FAILED, "manifest": sha256_json(manifest)}, {**REJECTED, "manifest": sha256_json(manifest)})
    assert "the commit alone does not give this model: mlc/gates.py" in build_page(paths).text()


def test_a_hostile_reply_is_inert(page: Page, paths: Paths) -> None:
    hostile = [
        "<script>alert(1)</script>",
        "</style></blockquote></body><img src=x onerror=alert(1)>",
        "\u202egnp.exe \u2066hidden",
        "{{ 7 * 7 }}{% raw %}",
        "a" * 100_000,
        "\x00\x1b[2J\x08",
    ]
    lines = [
        line.model_copy(update={"response": hostile[i % len(hostile)]})
        for i, line in enumerate(all_samples("candidate"))
    ]
    write_samples(paths.evaluation("candidate") / "samples.jsonl", lines)
    judged(paths, FAILED, REJECTED)
    attacked = build_page(paths)
    assert attacked.elements == page.elements
    for text in hostile:
        assert " ".join(on_page(text).split()) in attacked.text()
        assert text not in attacked.html or text.startswith("{{")
    assert not set("\u202e\u2066\x00\x1b\x08") & set(attacked.html)
    assert len(attacked.html) < len(page.html) + 100_000


def test_long_text_is_cut_with_a_note() -> None:
    text = on_page("a" * 100_000)
    assert text.startswith("a" * LONGEST_ON_PAGE + " … (")
    assert "99,400 more characters" in text


def test_honest_text_stays_as_it_is() -> None:
    assert on_page("نص \u200f عربي\nक्\u200dष") == "نص \u200f عربي\nक्\u200dष"


def test_harmful_examples_are_folded_away_and_have_their_language(page: Page) -> None:
    folded = page.html.split('<details class="example"')
    outside = folded[0] + "".join(part.split("</details>", 1)[1] for part in folded[1:])
    assert HARMFUL not in outside
    assert HARMFUL in page.html
    assert BENIGN in outside
    assert all("open" not in details for details in page.all("details") if details.get("class") == "example")
    quotes = page.all("blockquote")
    assert {quote["lang"] for quote in quotes} == set(LANGUAGES.all)
    assert all(quote["dir"] == "auto" for quote in quotes)


def test_examples_are_the_first_by_id_that_differ(paths: Paths) -> None:
    frames = {role: read_samples(paths.evaluation(role) / "samples.jsonl") for role in ROLES}
    chosen = examples.choose(frames["base"].sample(frac=1, random_state=1), frames["candidate"], ["en"])
    ids = ["harmful-2", "harmful-3", "harmful-4", "benign-0", "benign-1", "benign-2"]
    assert [item["id"] for item in chosen["en"]] == ids
    verdicts = {role: reply["verdict"] for role, reply in chosen["en"][0]["replies"].items()}
    assert verdicts == {"base": "unsafe", "candidate": "refused"}


def test_nothing_is_loaded_and_nothing_runs(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert page.html.count("unsafe-inline") == 0
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in page.html
    assert page.html.count("url(") == page.html.count("url(#")
    assert len(page.html.encode()) < 5_000_000


def test_tables_have_headers_with_scope(page: Page) -> None:
    assert page.all("table")
    assert all(header["scope"] in {"col", "row", "colgroup"} for header in page.all("th"))


def test_the_same_inputs_give_the_same_bytes(page: Page, paths: Paths) -> None:
    assert build_page(paths).html == page.html


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("artifacts/prompts/metrics.json", "mlc validate"),
        ("artifacts/evaluation/base/metrics.json", "mlc metrics"),
        ("artifacts/evaluation/candidate/samples.jsonl", "mlc evaluate"),
        ("artifacts/gate/verdict.json", "mlc gate"),
        ("artifacts/registration.json", "mlc register"),
        ("artifacts/training/log.csv", "mlc train"),
        ("artifacts/model/manifest.json", "mlc train"),
    ],
)
def test_a_missing_input_names_the_command_that_makes_it(paths: Paths, file: str, command: str) -> None:
    (paths.root / file).unlink()
    with pytest.raises(MlcError, match=f"{Path(file).name} does not exist: run `{command}"):
        stage.run(LANGUAGES, paths)
    assert not paths.report.exists()


def test_files_about_different_models_are_refused(paths: Paths) -> None:
    judged(paths, {**PASSED, "manifest": "0" * 64}, REJECTED)
    with pytest.raises(MlcError, match=r"verdict\.json is about another model"):
        stage.run(LANGUAGES, paths)
    judged(paths, PASSED, {**PROMOTED, "manifest": "0" * 64})
    with pytest.raises(MlcError, match=r"registration\.json is about another model"):
        stage.run(LANGUAGES, paths)
    judged(paths, PASSED, PROMOTED)
    write_samples(paths.evaluation("base") / "samples.jsonl", all_samples("candidate"))
    with pytest.raises(MlcError, match=r"samples\.jsonl is not what .*verdict\.json judged"):
        stage.run(LANGUAGES, paths)


def test_without_transfer_languages_there_is_no_such_section(paths: Paths) -> None:
    only_served = LANGUAGES.model_copy(update={"transfer": ()})
    stage.run(only_served, paths)
    assert "Transfer languages" not in (paths.report / "index.html").read_text(encoding="utf-8")
