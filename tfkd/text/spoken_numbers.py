"""Writes numbers as words, for recognisers that write them in digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from tfkd.errors import ConfigError

# 1,234,567 or 1234567, with decimals, and the ending of an English ordinal.
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?:(st|nd|rd|th)\b)?")


def speller(style: Literal["words", "digits"], language: str) -> Callable[[str], str]:
    """Makes a function that writes the numbers in a text as words.

    Args:
      style: "words" writes 21 as twenty one, "digits" as two one. In both styles, decimals become
        words, and numbers with a leading zero are written digit by digit.
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
            f"labels.whisper.numbers: {style} needs num2words",
            remedy="pip install '.[whisper]' in tfkd's folder",
        ) from error
    try:
        num2words(1, lang=language)
    except NotImplementedError as error:
        raise ConfigError(
            f"labels.whisper.numbers: num2words has no words for {language!r}",
            remedy="set it to as_written",
        ) from error

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
        # Add spaces, because a unit may follow the number without one, as in 12oz.
        return f" {words} "

    return lambda text: _NUMBER.sub(said, text)
