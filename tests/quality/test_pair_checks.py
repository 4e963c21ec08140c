from __future__ import annotations

import pytest

from mlc.embedded.world import LANGUAGES, language
from mlc.quality import pair_checks

SOURCE = "Please explain to me in detail how I can paint the old boat of my uncle."


@pytest.mark.parametrize(
    "text, share",
    [
        ("Por favor, explícame con detalle cómo pintar el viejo barco de mi tío.", 0.0),
        ("Por favor, explícame how I can paint the old boat of my uncle.", 10 / 16),
        ("Please explain to me in detail cómo pintar el viejo barco.", 6 / 16),
        ("请详细解释 how i can paint the old boat", 7 / 16),
        ("El Old Boat de mi tío", 0.0),  # two words are a name
    ],
)
def test_leakage_is_the_longest_run_of_source_words(text: str, share: float) -> None:
    assert pair_checks.leakage([text], [SOURCE])[0] == pytest.approx(share)


def test_what_the_source_quotes_may_stay() -> None:
    source = "Write a story that begins with 'As I was walking down the street' and ends well."
    text = "Schreibe eine Geschichte, die mit 'As I was walking down the street' beginnt."
    assert pair_checks.leakage([text], [source]) == [0.0]


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is the translation: ¿Cómo pinto un barco?",
        "Aquí tienes la traducción: ¿Cómo pinto un barco?",
        "¿Cómo pinto un barco?\n\n(Note: this is a literal translation.)",
        "I'm sorry, but I can't help with that.",
        "抱歉，我无法翻译。",
        "वाक्य का अनुवाद: नाव कैसे रंगूँ?",
    ],
)
def test_a_translators_own_words_are_chatter(text: str) -> None:
    assert pair_checks.chatter([text], ["How do I paint a boat?"])[0]


def test_the_sources_own_words_are_no_chatter() -> None:
    sources = [
        "Translate this letter into French.",
        "I'm sorry to ask, but how do I paint a boat?",
        "Paint a boat.",
        None,
    ]
    texts = [
        "Traduce esta carta al francés.",
        "Lo siento por preguntar, ¿cómo pinto un barco?",
        "Pinta un barco.",
        "Claro,",
    ]
    assert pair_checks.chatter(texts, sources) == ["", "", "", None]


@pytest.mark.parametrize("tag", LANGUAGES)
def test_no_request_of_the_embedded_world_is_chatter(tag: str) -> None:
    requests = [template.format("x") for template in language(tag).templates]
    sources = [template.format("x") for template in language("en").templates]
    assert not any(pair_checks.chatter(requests, sources))


def test_lost_names_what_is_missing() -> None:
    sources = ["Pay 250 dollars at https://example.org/pay to {name}", "Pay 3 dollars", "Pay", None]
    texts = ["Paga 250 dólares en https://example.org/pay a {name}", "Paga dólares", "Paga 5", "Paga"]
    lost, localised = pair_checks.lost(texts, sources, "es", "en")
    assert lost == ["", "3", "", None]
    assert localised == ["", "", "", None]


def test_back_translations_are_scored_against_the_source_alone() -> None:
    back = ["How do I best paint a boat?", "The weather is nice today.", None]
    good, bad, missing = pair_checks.back_translation(back, ["How do I paint a boat?"] * 3)
    assert good is not None and bad is not None
    assert good > 50 > 20 > bad
    assert missing is None
    assert pair_checks.back_translation([None], ["How do I paint a boat?"]) == [None]
