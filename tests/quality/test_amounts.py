"""Amounts in another currency or unit are told from numbers that are lost or wrong."""

from __future__ import annotations

import pytest

from mlc.quality import pair_checks
from mlc.quality.amounts import localised
from mlc.quality.preserved import lost


@pytest.mark.parametrize(
    ("source", "text", "language", "amount"),
    [
        ("The boat costs $250 a day.", "เรือราคา 8,800 บาทต่อวัน", "th", "8,800 บาท"),
        ("The boat costs 250 dollars.", "নৌকার দাম 27,300 টাকার মতো।", "bn", "27,300 টাকা"),
        ("The boat costs $250 a day.", "보트는 하루에 30만 원이에요.", "ko", "30만 원"),
        ("The boat costs $250 a day.", "Mashua inagharimu KES35,000 kwa siku.", "sw", "KES35,000"),
        ("The boat costs $5 a day.", "Perahu itu Rp75.000 per hari.", "id", "Rp75.000"),
        ("The boat costs 250 dollars.", "El barco cuesta 230 euros.", "es", "230 euros"),
        ("Walk 6 miles along the river.", "Camina 9,7 kilómetros junto al río.", "es", "9,7 kilómetros"),
        ("It is 34.4°C outside.", "Draußen sind es 94 °F.", "de", "94 °F"),
        ("The wall is 6 feet high.", "Die Mauer ist 1,83 m hoch.", "de", "1,83 m"),
    ],
)
def test_another_currency_or_unit_is_localised(source: str, text: str, language: str, amount: str) -> None:
    gone = lost(source, text)
    assert localised(source, text, gone, "en", language) == [(gone[0], amount)]


@pytest.mark.parametrize(
    ("source", "text", "language"),
    [
        ("The boat costs 250 dollars.", "El barco cuesta 2500 dólares.", "es"),  # the same currency, a wrong number
        ("The boat costs 250 dollars.", "El barco es caro.", "es"),
        ("250 dollars for 3 boats.", "250 dólares por 4 barcos.", "es"),  # boats are no unit
        ("The boat costs $5.", "Das Boot kostet 5000 Leute.", "de"),  # people, no Romanian lei
        ("The boat takes 20 people.", "เรือบรรทุกได้ 8800 บาท", "th"),  # no amount in the source
    ],
)
def test_a_lost_or_wrong_number_is_not(source: str, text: str, language: str) -> None:
    gone = lost(source, text)
    assert gone and localised(source, text, gone, "en", language) == []


def test_localised_amounts_and_lost_numbers_are_two_reasons() -> None:
    source = "Sell 3 boats for $250 each."
    texts = ["ขายเรือ 3 ลำ ลำละ 8,800 บาท", "ขายเรือ ลำละ 8,800 บาท", "ขายเรือ 3 ลำ ลำละ 250 ดอลลาร์", None]
    gone, converted = pair_checks.lost(texts, [source] * 4, "th", "en")
    assert gone == ["", "3", "", None]
    assert converted == ["250 -> 8,800 บาท", "250 -> 8,800 บาท", "", None]


def test_names_with_digits_words_in_brackets_and_roman_numerals_are_no_lost_numbers() -> None:
    assert lost("A film about WW2.", "Une histoire de la Seconde Guerre mondiale.") == []
    assert lost("Less CO2 in the 21st century", "Menos dióxido de carbono en el siglo XXI") == []
    assert lost("Less CO2, please", "Menos CO, por favor") == ["2"]
    assert lost("Go to <name of the town>.", "Ve a <nombre de la ciudad>.") == []
    assert lost("Click <a href='x'>here</a> on page 21", "Haz clic aquí, página XIX") == ["<a href='x'>", "</a>", "21"]
