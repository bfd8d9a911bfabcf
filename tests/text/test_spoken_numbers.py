"""Numbers become the words that are said."""

from __future__ import annotations

import pytest

pytest.importorskip("num2words", reason="needs pip install 'tfkd[whisper]'")

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
        ("words", "de", "Es ist 21 Uhr", "es ist einundzwanzig uhr"),
        ("digits", "en", "5 32 904", "five three two nine zero four"),
        ("digits", "en", "no number", "no number"),
    ],
)
def test_numbers_are_said(style, language, text, said):
    assert normalise(speller(style, language)(text)) == said


def test_a_language_without_words_is_refused():
    with pytest.raises(ConfigError, match="num2words has no words for 'xx'"):
        speller("words", "xx")
