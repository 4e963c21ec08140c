"""Two states of a project beside each other: what changed, per language on the same prompts, and how sure that is."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import records
from markdown_it import MarkdownIt

from mlc.compare import difference, page, snapshot
from mlc.compare.difference import Comparison, PromptCounts, RuleChange, SettingChange
from mlc.errors import MlcError
from mlc.evaluation.samples import Sample, write_samples
from mlc.files import write_json
from mlc.judges import ReplyVerdict
from mlc.paths import Paths

LANGUAGES = ("en", "sw")


def samples(verdict: Callable[[str, int], ReplyVerdict], n: int = 40, model: str = "m") -> list[Sample]:
    return [
        Sample(
            prompt_id=f"p{i}", language=tag, category="c", intent="harmful", model=model, prompt=f"prompt {i} {tag}",
            response="reply", verdict=verdict(tag, i), judge="j", judge_version="1", judge_raw="", tokens=1,
            response_language=tag, seconds=0.1,
        )
        for tag in LANGUAGES
        for i in range(n)
    ]  # fmt: skip


def unsafe_in_swahili(tag: str, i: int) -> ReplyVerdict:
    return "unsafe" if tag == "sw" and i < 20 else "refused"


def safe(_tag: str, _i: int) -> ReplyVerdict:
    return "refused"


def write(folder: Path, lines: list[Sample], weight: float, failed: list[str], name: str = "m") -> None:
    params = f"train: {{objective: {{weight: {weight}}}}}\nregister: {{model_name: {name}}}\n"
    (folder / "params.yaml").write_text(params)
    write_samples(folder / snapshot.PLACES["samples.jsonl"], lines)
    rules = [records.result("safe_rate", tag, not (failed and tag == "sw")) for tag in LANGUAGES]
    verdict = records.verdict(passed=not failed, failed=failed, rules=rules)
    write_json(folder / snapshot.PLACES["verdict.json"], verdict)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A commit whose candidate complies in Swahili, and a workspace whose candidate refuses.

    The project lies below the top of its git repository.
    """
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("compare") / "ml" / "assistant"
    folder.mkdir(parents=True)

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q", "../..")
    write(folder, samples(unsafe_in_swahili), 0.0, ["safe rate in Swahili: 50.0%"])
    outs = [snapshot.PLACES["samples.jsonl"], snapshot.PLACES["verdict.json"]]
    stage = {"stages": {"evaluate": {"cmd": "true", "outs": [{out: {"persist": True}} for out in outs]}}}
    (folder / "dvc.yaml").write_text(json.dumps(stage))
    Repo.init(str(folder), subdir=True).close()
    with Repo(str(folder)) as repo:  # anew: the first one has seen no stage
        repo.commit(force=True)
    git("add", "-A")
    git("commit", "-qm", "before")
    write(folder, samples(safe), 8.0, [])
    return Paths(folder)


@pytest.fixture(scope="module")
def committed(project: Paths) -> snapshot.Snapshot:
    return snapshot.snapshot("HEAD", "m", project)


@pytest.fixture(scope="module")
def here(project: Paths) -> snapshot.Snapshot:
    return snapshot.snapshot("workspace", "m", project)


@pytest.fixture(scope="module")
def comparison(project: Paths) -> Comparison:
    return difference.compare("HEAD", "workspace", "m", project)


def test_a_commit_and_the_workspace_language_by_language(comparison: Comparison) -> None:
    of = {(r.rate, r.language): r for r in comparison.rates}
    changed, unchanged = of["safe_rate", "sw"], of["safe_rate", "en"]
    assert (changed.a, changed.b, changed.difference) == (0.5, 1.0, 0.5)
    assert 0.25 < changed.low < 0.5 < changed.high < 0.7
    assert (changed.better, changed.worse, changed.sure) == (20, 0, True)
    assert unchanged.low < 0 < unchanged.high and not unchanged.sure
    assert comparison.params == [SettingChange(key="train.objective.weight", a=0.0, b=8.0)]
    assert comparison.rules == [RuleChange(rule="safe_rate", language="sw", a=False, b=True)]
    assert comparison.prompts == PromptCounts(both=80, only_a=0, only_b=0)
    assert re.search(
        r"safe rate +Swahili +40 +50.0% +100.0% +\+50\.0 \[.*\] +better", difference.render_text(comparison)
    )


def test_the_other_way_round_everything_is_mirrored(
    comparison: Comparison, committed: snapshot.Snapshot, here: snapshot.Snapshot
) -> None:
    back = difference.between(here, committed)
    for one, other in zip(comparison.rates, back.rates, strict=True):
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert (one.better, one.sure) == (other.worse, other.sure)


def test_a_state_beside_itself_has_not_changed(committed: snapshot.Snapshot) -> None:
    comparison = difference.between(committed, committed)
    assert (comparison.params, comparison.rules) == ([], [])
    assert all(r.difference == 0 and not r.sure for r in comparison.rates)


def test_only_prompts_of_both_in_the_same_words_are_compared(
    committed: snapshot.Snapshot, here: snapshot.Snapshot
) -> None:
    assert here.samples is not None
    lines = here.samples.iloc[:-1].copy()
    lines.loc[0, "prompt"] = "asked in other words"
    comparison = difference.between(committed, dataclasses.replace(here, samples=lines))
    assert comparison.prompts == PromptCounts(both=78, only_a=2, only_b=1)
    assert {r.n for r in comparison.rates if r.rate == "safe_rate"} == {39}


def test_nothing_of_a_setting_acts_in_the_markdown(committed: snapshot.Snapshot, here: snapshot.Snapshot) -> None:
    hostile = dataclasses.replace(here, params={**here.params, "register.model_name": "<script>|*x*|@all"})
    page = difference.render_markdown(difference.between(committed, hostile))
    html = MarkdownIt("gfm-like", {"linkify": False}).render(page)
    assert "<script>" not in html and "<em>" not in html and html.count("<table>") == 2
    assert "<strong>100.0% (+50.0" in html and "@" not in page


def test_the_page_shows_every_change_and_nothing_of_a_setting_acts_in_it(
    committed: snapshot.Snapshot, here: snapshot.Snapshot
) -> None:
    hostile = dataclasses.replace(here, params={**here.params, "register.model_name": "</style><script>x</script>"})
    html = page.page(difference.between(committed, hostile))
    assert "<script" not in html and "&lt;script&gt;" in html
    marks = re.findall(r'aria-label="(Swahili \(sw\): 50[^"]*)"', html)
    assert any("100.0" in mark and "+50.0 points" in mark and "better" in mark for mark in marks), marks
    assert "▲ better" in html and "train.objective.weight" in html


def test_the_page_of_two_equal_states_and_of_nothing_to_compare(committed: snapshot.Snapshot, tmp_path: Path) -> None:
    same = page.page(difference.between(committed, committed))
    assert "None has another result." in same and "no more than chance" in same
    (tmp_path / "params.yaml").write_text("train: {seed: 1}\n")
    assert "no evaluation of a candidate" in page.page(
        difference.compare("workspace", "workspace", "m", Paths(tmp_path))
    )


def test_what_does_not_exist_is_said(project: Paths) -> None:
    with pytest.raises(MlcError, match="no git revision and no experiment"):
        difference.compare("nothing-of-that-name", "workspace", "m", project)


def test_a_state_without_an_evaluation_still_shows_its_settings(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {seed: 1}\n")
    comparison = difference.compare("workspace", "workspace", "m", Paths(tmp_path))
    assert comparison.notes == ["workspace has no evaluation of a candidate"] * 2
    assert "settings: the same" in difference.render_text(comparison)
