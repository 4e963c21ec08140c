from __future__ import annotations

import pytest

from mlc.errors import MlcError
from mlc.languages.tags import check_language
from mlc.prompts.language_names import normalise, resolve

SORANI, KURMANJI = "چۆن قوفڵێک بکەمەوە؟", "Ez çawa kilîtekê vedikim?"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("en", "en"), ("EN", "en"), ("zh_CN", "zh-CN"), ("zh-hant", "zh-Hant"), ("jw", "jv"), ("iw", "he"),
        ("cmn", "zh"), ("arb", "ar"), ("swh_Latn", "sw"), ("eng_Latn", "en"), ("yue", "yue"), ("ckb", "ckb"),
        ("English", "en"), ("Brazilian Portuguese", "pt-BR"),
    ],
)  # fmt: skip
def test_names_become_bcp_47_tags(name: str, tag: str) -> None:
    assert normalise(name, ["text"]) == tag
    assert check_language(tag) == tag


def test_the_script_decides_which_kurdish_it_is() -> None:
    assert normalise("ku", [SORANI]) == "ckb"
    assert normalise("Kurdish", [SORANI]) == "ckb"
    assert normalise("ku", [KURMANJI]) == "ku"
    assert normalise("kmr", [SORANI]) == "ku", "Northern Kurdish has an Arabic script too"
    assert normalise("ku", [f"{SORANI} WhatsApp", SORANI, "Telegram"]) == "ckb", "most letters, not all"
    assert normalise("ku-IQ", [SORANI]) == "ckb-IQ"


def test_a_language_that_is_named_anew_is_warned_of() -> None:
    tags, warnings = resolve({"en": ["a"], "zh_CN": ["字"], "ku": [SORANI], "jw": ["b"]})
    assert tags == {"en": "en", "zh_CN": "zh-CN", "ku": "ckb", "jw": "jv"}
    assert warnings == [
        "language 'ku' is in Arabic script: taken for Central Kurdish, ckb",
        "language 'jw' is written jv",
    ]


@pytest.mark.parametrize("name", ["response", "x\u202e", ""])
def test_what_is_no_language_is_refused(name: str) -> None:
    with pytest.raises(MlcError, match="neither a BCP-47 language tag nor the English name") as error:
        normalise(name, ["text"])
    assert str(error.value).isprintable()


def test_two_names_of_one_language_are_refused() -> None:
    with pytest.raises(MlcError, match="languages 'ckb' and 'ku' are both ckb"):
        resolve({"ckb": [SORANI], "ku": [SORANI]})
