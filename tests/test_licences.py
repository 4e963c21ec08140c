"""A licence is what SPDX calls it; what nobody has named is unknown, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression

from mlc import licences


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mit", "MIT"),
        ("apache-2.0", "Apache-2.0"),
        (" CC-BY-nc-4.0\n", "CC-BY-NC-4.0"),
        ("odc-by", "ODC-By-1.0"),  # the hub's word, which is not SPDX's
        ("llama3.1", "LicenseRef-llama3.1"),
        ("Our own, 2nd edition", "LicenseRef-Our-own-2nd-edition"),
        ("mit or gpl-2.0-only", "MIT OR GPL-2.0-only"),
        *((word, None) for word in (None, "", "unknown", "other", "NOASSERTION", "???")),
    ],
)
def test_what_an_owner_names_is_said_in_the_words_of_spdx(given: str | None, meant: str | None) -> None:
    assert licences.spdx(given) == meant
    if meant is not None:
        assert canonicalize_license_expression(meant) == meant


def test_any_text_becomes_a_licence_that_spdx_can_read_or_none() -> None:
    for text in ("\x1b[2J", "a" * 999, "LicenseRef-", "MIT AND", "(((", "AND", "-", ". .", "許諾", "MIT\nGPL-2.0-only"):
        if (name := licences.spdx(text)) is not None:
            assert canonicalize_license_expression(name) == name and len(name) < 200


def test_a_person_has_to_name_a_licence_that_there_is() -> None:
    assert licences.checked("apache-2.0") == "Apache-2.0"
    assert licences.checked("LicenseRef-our-contract") == "LicenseRef-our-contract"
    with pytest.raises(ValueError, match=r"'llama3' is no SPDX identifier .* such as LicenseRef-llama3$"):
        licences.checked("llama3")
    with pytest.raises(ValueError, match="holds several licences"):
        licences.checked_identifier("MIT AND Apache-2.0")


def test_every_licence_of_an_expression_counts() -> None:
    expression = licences.spdx("(mit and cc0-1.0) or apache-2.0 with llvm-exception")
    assert expression is not None
    assert licences.identifiers(expression) == {"MIT", "CC0-1.0", "Apache-2.0 WITH LLVM-exception"}


@pytest.mark.parametrize(
    ("card", "meant"),
    [
        ("---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Base\n", "Apache-2.0"),
        ("---\nlicense: other\nlicense_name: gemma\n---\n", "LicenseRef-gemma"),
        ("---\nlicense: other\n---\n", None),
        ("---\nlanguage: en\n---\n", None),
        ("# A card without metadata, under the MIT licence\n", None),
        ("---\nlicense: [mit\n---\n", None),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
    ],
)
def test_the_licence_of_a_model_is_the_one_in_its_own_card(card: str, meant: str | None, tmp_path: Path) -> None:
    assert licences.of_model(tmp_path) is None and licences.of_card(tmp_path) == {}
    (tmp_path / "README.md").write_text(card)
    assert licences.of_model(tmp_path) == meant


def test_the_terms_of_a_base_are_handed_on_as_its_card_has_them(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: gemma\nlicense_link: a/b\nx: 1\n---\n")
    assert licences.of_card(tmp_path) == {"license": "other", "license_name": "gemma", "license_link": "a/b"}
