"""A conversation on the command line, with real weights: piped, as a script would."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlc import chat
from mlc.errors import MlcError
from mlc.languages.check import LanguageCheck
from mlc.models.generation import generate
from mlc.paths import Paths
from mlc.settings import load_settings

SETTINGS = load_settings(Path(__file__).parents[1] / "params.yaml")
QUESTION = "How do I repair a bicycle?"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_base: Path, tmp_path: Path) -> Any:
    """Runs a conversation with these lines, and returns what it printed."""

    def run(lines: list[str], names: list[str] | None = None, language: str | None = None, as_json: bool = True) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        chat.run(names or [str(tiny_base)], SETTINGS, language, 8, as_json, Paths(tmp_path))
        return capsys.readouterr().out

    return run


def replies(printed: str) -> list[list[str]]:
    return [[reply["response"] for reply in json.loads(line)["replies"]] for line in printed.splitlines()]


def test_the_first_reply_is_what_evaluation_would_get(say: Any, tiny: tuple[Any, Any]) -> None:
    assert replies(say([QUESTION])) == [[generate(*tiny, [QUESTION], 8, 4096, "test")[0].text]]


def test_a_conversation_goes_on_and_new_forgets_it(say: Any) -> None:
    first, second, *again = replies(say([QUESTION, QUESTION, "/new", QUESTION, "", QUESTION]))
    assert again == [first, second]


def test_two_models_keep_their_own_sides(say: Any, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "artifacts" / "base")
    one = replies(say([QUESTION, QUESTION]))
    assert replies(say([QUESTION, QUESTION], [str(tiny_base), "base"])) == [[turn[0]] * 2 for turn in one]
    output = say([QUESTION], [str(tiny_base), "base"], as_json=False)
    assert tiny_base.name in output and "│" in output


def test_what_no_longer_fits_is_forgotten_and_what_never_does_is_an_error(say: Any) -> None:
    assert len(replies(say([QUESTION] * 12))) == 12  # far more than the 256 tokens that the model holds
    with pytest.raises(MlcError, match=r"this message has \d+ tokens, .* the model holds 256"):
        say([QUESTION * 60])


@pytest.mark.parametrize(
    ("names", "language", "message"),
    [(["nowhere"], None, "nowhere: no such folder"), (None, "klingon!", "--language: .* is not a BCP-47 language tag")],
)
def test_what_does_not_exist_is_said(say: Any, names: list[str] | None, language: str | None, message: str) -> None:
    with pytest.raises(MlcError, match=message):
        say([QUESTION], names, language)


def test_a_reply_in_another_language_is_noted_and_one_of_which_nothing_can_be_said_is_not() -> None:
    check = LanguageCheck.of(SETTINGS.languages)
    english = "You can repair a bicycle at home with a few simple tools and some patience."
    assert chat._note(english, "sw", check) == "reads like English, not Swahili"
    assert [chat._note(reply, "sw", check) for reply in ("Paris", "42", "?!")] == ["", "", "no words in it"]
    assert chat._languages(english, "sw", check) == {"language": "en", "in_language": "no"}
    assert chat._languages("Paris", "sw", check) == {"language": "und", "in_language": "cannot say"}
    assert chat._languages(english, None, check) == {"language": "en"}


def test_nothing_in_a_reply_acts_on_the_terminal() -> None:
    assert chat._printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\nb\\u202e"
