"""Numbers become the words that are said."""

from __future__ import annotations

import pytest

pytest.importorskip("num2words", reason="needs pip install 'tfkd[whisper]'")

from num2words import CONVERTER_CLASSES

from tfkd.errors import ConfigError
from tfkd.text import normalise
from tfkd.text.spoken_numbers import speller


@pytest.mark.parametrize(
    ("style", "language", "text", "said"),
    [
        ("words", "en", "A 16-ounce cup, 2.", "a sixteen ounce cup two"),
        ("words", "en", "12oz for the 3rd time", "twelve oz for the third time"),
        ("words", "en", "1,250 or 3.5", "one thousand two hundred and fifty or three point five"),
        ("words", "en", "agent 007", "agent zero zero seven"),
        ("words", "en", "at 7:30", "at seven thirty"),
        (
            "words",
            "en",
            "That is $1, or £12.50.",
            "that is one dollar or twelve pounds and fifty pence",
        ),
        (
            "words",
            "en",
            "$0.05 of €1,250",
            "five cents of one thousand two hundred and fifty euros",
        ),
        ("words", "en", "$1.2 million", "one point two million dollars"),
        ("words", "en", "in 1999, not 2005", "in nineteen ninety nine not two thousand and five"),
        ("words", "en", "the 1990s or 1900s", "the nineteen nineties or nineteen hundreds"),
        ("words", "en", "1995%", "one thousand nine hundred and ninety five percent"),
        ("words", "en", "1999.5", "one thousand nine hundred and ninety nine point five"),
        ("words", "de", "1995 für 5 €", "eintausendneunhundertfünfundneunzig für fünf"),
        ("digits", "en", "room 1995", "room one nine nine five"),
        ("words", "de", "Es ist 21 Uhr", "es ist einundzwanzig uhr"),
        (
            "words",
            "en",
            "up by 50%, or 2.5 %",
            "up by fifty percent or two point five percent",
        ),
        (
            "words",
            "de",
            "1.250 Euro und 3,5 Prozent",
            "eintausendzweihundertfünfzig euro und drei komma fünf prozent",
        ),
        ("words", "de", "um 7.30 Uhr", "um sieben dreißig uhr"),
        ("words", "es", "1.500 euros", "mil quinientos euros"),
        ("words", "nl", "2.000", "tweeduizend"),
        ("words", "it", "10.000 o 3,25", "diecimila o tre virgola due cinque"),
        ("words", "fr", "1 500,25", "mille cinq cents virgule deux cinq"),
        ("words", "fr", "le 06 12", "le zéro six douze"),
        ("words", "ru", "3,5", "три целых пять десятых"),
        ("words", "ar", "٢٥", "خمسة و عشرون"),
        ("words", "en", "1" * 20, " ".join(["one"] * 20)),
        ("digits", "en", "5 32 904", "five three two nine zero four"),
        ("digits", "en", "no number", "no number"),
        (
            "words",
            "fr",
            "le 1er étage, la 1re et la 3ème",
            "le premier étage la première et la troisième",
        ),
        ("words", "fr", "la 1ère fois, le 2nd, la 2nde", "la première fois le second la seconde"),
        ("words", "es", "3er piso, 1.er, 2do, 1ra", "tercer piso primer segundo primera"),
        ("words", "fr", "au 2e ou 21e", "au deuxième ou vingt et unième"),
        ("words", "nl", "de 2de, 8ste en 20e", "de tweede achtste en twintigste"),
        ("words", "es", "la 21ª y el 3.º", "la vigésima primera y el tercero"),
        ("words", "it", "il 3º piano", "il terzo piano"),
        ("words", "de", "2er", "zwei er"),
        ("digits", "fr", "le 21er", "le deux un"),
        (
            "words",
            "en",
            "1½ cups, 2 ¾ or ½",
            "one and a half cups two and three quarters or a half",
        ),
        ("words", "en", "20½ m², ① and ⅝", "twenty and a half m two one and five eight"),
        ("words", "de", "½ m²", "eins zwei m zwei"),
    ],
)
def test_numbers_are_said(style, language, text, said):
    assert normalise(speller(style, language)(text)) == said


def test_a_language_without_words_is_refused():
    with pytest.raises(ConfigError, match="num2words has no words for 'xx'"):
        speller("words", "xx")


WRITTEN = (
    *("0", "7", "25", "1995", "1,250", "1.250", "1 250", "2.5", "2,5", "3.14159", "3,14159"),
    *("50%", "1,000,000.25", "12345678901", "1" * 30, "1" * 400, "9.999.999.999,99", "٢٥"),
    *("$1", "$0.5", "€" + "1" * 400, "£1.1 trillion", "1990s"),
)


@pytest.mark.parametrize("language", CONVERTER_CLASSES)
def test_no_number_stops_the_labelling(language):
    """A recogniser in a loop writes what nobody says, and a rerun would meet it again."""
    for style in ("words", "digits"):
        say = speller(style, language)
        for number in WRITTEN:
            said = say(f"x {number} y")
            assert said.startswith("x ")
            assert said.endswith(" y")
            assert len(said.split()) > 2
