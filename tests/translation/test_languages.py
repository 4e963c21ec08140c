"""Language codes: the usual tags find their language in each family's own vocabulary, and no other language."""

from __future__ import annotations

import pytest
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from mlc.translation.languages import codes

MADLAD = ["<2en>", "<2sw>", "<2zh>", "<2zh_Latn>", "<2es_419>", "<2fil>", "<2iw>", "<2translate>", "<2s>", "<unk>"]


@pytest.mark.parametrize(
    ("tag", "nllb", "m2m"),
    [
        ("en", "eng_Latn", "__en__"),
        ("en-GB", "eng_Latn", "__en__"),
        ("sw", "swh_Latn", "__sw__"),
        ("bn", "ben_Beng", "__bn__"),
        ("ar", "arb_Arab", "__ar__"),
        ("arz", "arz_Arab", None),
        ("zh", "zho_Hans", "__zh__"),
        ("zh-Hant", "zho_Hant", None),
        ("yue", "yue_Hant", None),
        ("pt-BR", "por_Latn", "__pt__"),
        ("de-CH", "deu_Latn", "__de__"),
        ("gsw", None, None),
        ("fa", "pes_Arab", "__fa__"),
        ("ps", "pbt_Arab", "__ps__"),
        ("no", "nob_Latn", "__no__"),
        ("nb", "nob_Latn", "__no__"),
        ("nn", "nno_Latn", None),
        ("sr", "srp_Cyrl", "__sr__"),
        ("sr-Latn", None, None),
        ("fil", "tgl_Latn", "__tl__"),
        ("ne", "npi_Deva", "__ne__"),
        ("or", "ory_Orya", "__or__"),
        ("la", None, None),
        ("jv", "jav_Latn", "__jv__"),
        ("he", "heb_Hebr", "__he__"),
        ("id", "ind_Latn", "__id__"),
        ("bs", "bos_Latn", "__bs__"),
    ],
)
def test_tags_find_their_language(tag: str, nllb: str | None, m2m: str | None) -> None:
    for language_codes, expected in (
        (codes(["▁the", *NLLB]), nllb),
        (codes([f"__{code}__" for code in M2M["m2m100"]]), m2m),
    ):
        assert language_codes is not None and language_codes.token(tag) == expected


def test_madlad_names_the_target_in_the_text() -> None:
    language_codes = codes(MADLAD)
    assert language_codes is not None and language_codes.family == "madlad"
    assert [language_codes.token(tag) for tag in ("en", "sw", "zh", "zh-Latn", "fil", "he", "xx")] == [
        "<2en>", "<2sw>", "<2zh>", "<2zh_Latn>", "<2fil>", "<2iw>", None
    ]  # fmt: skip


def test_all_languages_of_nllb_are_found_by_the_tags_shown() -> None:
    language_codes = codes(NLLB)
    assert language_codes is not None
    assert {language_codes.token(tag) for tag in language_codes.tokens} <= set(NLLB)
    assert len(language_codes.tokens) == len(NLLB)


def test_other_vocabularies_have_none() -> None:
    assert codes(["▁the", "<s>", "Latn", "eng"]) is None
