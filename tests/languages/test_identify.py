"""Languages are compared by distance, and what validation asks of identification."""

from __future__ import annotations

import pytest

from mlc.languages.identify import any_script_share, covered, identify, same_language, script_share


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("fil", "tl"), ("nb", "no"), ("no", "nb"), ("gn", "gug"), ("bs", "hr"), ("sr-Latn", "hr"), ("hr", "sh"),
        ("zh-Hant", "zh"), ("ar", "arz"), ("ku", "kmr"), ("fa", "prs"), ("sw", "swh_Latn"), ("zh", "cmn_Hani"),
        ("ceb", "ceb_Latn"), ("pt-BR", "pt"), ("et", "ekk"), ("he", "iw"),
    ],
)  # fmt: skip
def test_the_same_language_under_another_name_is_the_same(tag: str, found: str) -> None:
    assert same_language(tag, found)


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("nb", "da"), ("nb", "nn"), ("ms", "id"), ("cs", "sk"), ("uk", "ru"), ("es", "pt"), ("yue", "zh"), ("zu", "xh"),
        ("ku", "ckb"), ("ti", "am"), ("gn", "es"), ("ny", "sn"), ("en", "und"), ("de", "nl"), ("pcm", "en"),
    ],
)  # fmt: skip
def test_a_relative_is_another_language(tag: str, found: str) -> None:
    assert not same_language(tag, found)


def test_validation_can_check_what_is_known_under_another_name() -> None:
    assert covered("fil") and covered("nb") and covered("gn") and covered("bs")
    assert not covered("ny") and not covered("ctg-Beng") and not covered("wo")
    assert same_language("fil", identify("Magsimula ka sa tatlong simpleng akorde at mag-ensayo ka araw-araw."))


def test_a_language_has_all_its_scripts_unless_its_tag_names_one() -> None:
    assert script_share("Ако желиш", "sr") == 1 and script_share("Ako želiš", "sr") == 0
    assert any_script_share("Ako želiš", "sr") == 1 and any_script_share("Ako želiš", "sr-Cyrl") == 0
    assert any_script_share("漢字", "zh-Hant") == 1 and any_script_share("ひらがな", "zh") == 0
    assert any_script_share("...", "en") == 0
