"""Numbers as they are said, for recognisers that write them in digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from tfkd.errors import ConfigError

# 1,234,567 or 1234567, with decimals, and the ending of an English ordinal.
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?:(st|nd|rd|th)\b)?")


def speller(style: Literal["words", "digits"], language: str) -> Callable[[str], str]:
    """Makes the function that writes a text's numbers as they are said.

    Args:
      style: "words" says 21 as twenty one, "digits" as two one.
        Decimals are said as words in both; so is a number with a zero in front, digit by digit.
      language: code of the language whose words are used.
    Raises:
      ConfigError: if num2words is not installed, or does not know the language.

    >>> speller("words", "en")("A 12oz cup, the 3rd of 1,250.")
    'A  twelve oz cup, the  third  of  one thousand, two hundred and fifty .'
    >>> speller("digits", "en")("room 201")
    'room  two zero one '
    """
    try:
        from num2words import num2words
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"whisper.numbers: {style} needs num2words",
            remedy="pip install '.[whisper]' in tfkd's folder",
        ) from error
    try:
        num2words(1, lang=language)
    except NotImplementedError as error:
        raise ConfigError(f"whisper.numbers: num2words has no words for {language!r}") from error

    def said(match: re.Match[str]) -> str:
        whole, decimals, ordinal = match.groups()
        whole = whole.replace(",", "")
        if decimals:
            words = num2words(f"{whole}{decimals}", lang=language)
        elif ordinal and language == "en" and style == "words":
            words = num2words(int(whole), to="ordinal", lang=language)
        elif style == "digits" or whole != str(int(whole)):
            words = " ".join(num2words(int(digit), lang=language) for digit in whole)
        else:
            words = num2words(int(whole), lang=language)
        # Spaces, lest a unit that is written to the number become part of the word.
        return f" {words} "

    return lambda text: _NUMBER.sub(said, text)
