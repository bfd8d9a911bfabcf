"""Writes numbers as words, for recognisers that write them in digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tfkd.errors import ConfigError
from tfkd.text.normalisation import apart

# What stands between thousands, as a class of characters, and before decimals. CLDR 45, where
# num2words has the language; its others, and those that are not listed, write as English does.
_ENGLISH = (",", ".")
_POINTS = {
    *("ca", "da", "de", "es", "id", "is", "it", "nl", "pt", "ro", "sl", "sr", "tet", "tr", "vi"),
}
_SPACES = {
    *("az", "be", "ce", "cs", "eo", "fi", "fr", "hu", "kz", "lt", "lv", "no", "pl", "ru", "sk"),
    *("sv", "tg", "uk"),
}
# Words that num2words lacks or leaves out.
_DECIMAL_POINT = {"id": "koma", "it": "virgola", "vi": "phẩy"}
_PERCENT = {"de": "Prozent", "en": "percent", "es": "por ciento", "fr": "pour cent",
            "it": "per cento", "nl": "procent", "pt": "por cento"}  # fmt: skip
# The names of one and of several, and those of hundredths.
_ENGLISH_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}
# What makes a number an ordinal, where num2words has ordinals.
_ORDINALS = {"en": "st|nd|rd|th", "fr": "ers?|[èe]?res?|i?[èe]mes?|es?|nde?s?", "nl": "ste|de|e",
             "es": r"\.?(?:[ºª]|er)|[rdtmvn][oa]", "it": r"\.?[ºª]",
             "pt": r"\.?[ºª]"}  # fmt: skip
# Ordinals that a suffix changes: the suffix, an ordinal of num2words, and what is said.
_OF_SUFFIX = {
    "fr": (("[èe]?res?", "premier", "première"), ("nds?", "deuxième", "second"),
           ("ndes?", "deuxième", "seconde")),
    "es": ((".*[ªa]", r"o\b", "a"), (r"\.?er", r"o\b", "")),
    "it": (("ª", r"o\b", "a"),),
    "pt": ((r"\.?ª", r"o\b", "a"),),
}  # fmt: skip
# Fractions that English says in words of its own.
_ENGLISH_FRACTIONS = {"¼": "a quarter", "½": "a half", "¾": "three quarters", "⅓": "a third",
                      "⅔": "two thirds", "⅛": "an eighth"}  # fmt: skip
_ENGLISH_FRACTION = re.compile(rf"(?P<whole>\d?) ?(?P<sign>[{''.join(_ENGLISH_FRACTIONS)}])")
# With what stands between thousands in place of the braces.
_GROUPED = r"(?!0)\d{{1,3}}(?:[{}]\d{{3}})+(?!\d)"
_MONEY = re.compile(
    rf"(?P<sign>[$€£])(?P<whole>{_GROUPED.format(',')}|\d+)(?:\.(?P<decimals>\d+))?"
    r"(?P<scale> (?:thousand|million|billion|trillion)\b)?"
)
_YEAR = re.compile(r"(?<![\w.,])(?P<year>1[1-9]\d\d|20[1-9]\d)(?P<decade>s)?(?![.,]?\w| ?%)")
# What has more digits is no number that anybody says, but a loop of the recogniser. In Amharic,
# num2words fails above a thousand, and does not return above a million.
_MOST_DIGITS, _MOST_DIGITS_OF = 15, {"am": 3}


def speller(style: Literal["words", "digits"], language: str) -> Callable[[str], str]:
    """Makes a function that writes the numbers in a text as words.

    Thousands and decimals are read as the language writes them: 1,250.5 in English, 1.250,5 in
    German, 1 250,5 in French; and so are ordinals in English, French, Dutch, Spanish, Italian and
    Portuguese. In English words, a sign of a currency becomes its name, and four digits without a
    comma are read as a year is, 1250 as twelve fifty.

    Args:
      style: "words" writes 21 as twenty one, "digits" as two one. In both styles, decimals become
        words, and very long numbers and those with a leading zero are written digit by digit.
        Fractions and superscripts, as in 1½ and m², are numbers of their own.
      language: code of the language whose words are used.
    Returns:
      The function. It leaves a number as it is for which the language has no words.
    Raises:
      ConfigError: if num2words is not installed, or does not know the language.

    >>> speller("words", "en")("A 12oz cup, the 3rd of 1,250.")
    'A  twelve oz cup, the  third  of  one thousand, two hundred and fifty .'
    >>> speller("digits", "en")("room 201")
    'room  two zero one '
    """
    try:
        from num2words import CONVERTER_CLASSES, num2words
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
    own_point = getattr(CONVERTER_CLASSES.get(language), "pointword", None)
    words = _Words(num2words, language, own_point if isinstance(own_point, str) else None)

    def said(match: re.Match[str]) -> str:
        whole = _digits(match["whole"])
        found: str | None
        if match["decimals"]:
            found = words.decimal(whole, _digits(match["decimals"]))
        elif match["ordinal"] and style == "words":
            found = words.ordinal(whole, match["ordinal"])
        else:
            found = words.digit_by_digit(whole) if style == "digits" else words.whole(whole)
        if found is None:
            return match[0]
        percent = f"{_PERCENT.get(words.family, '%')} " if match["percent"] else ""
        # Add spaces, because a unit may follow the number without one, as in 12oz.
        return f" {found} {percent}"

    pattern = _pattern(words.family)
    if words.family != "en" or style == "digits":
        return lambda text: pattern.sub(said, apart(text))

    def in_english(text: str) -> str:
        text = _ENGLISH_FRACTION.sub(_english_fraction, text)
        return pattern.sub(said, _YEAR.sub(words.year, _MONEY.sub(words.money, apart(text))))

    return in_english


@dataclass(frozen=True)
class _Words:
    """The number words of a language; None for a number for which it has none.

    Attributes:
      num2words: the function of that library.
      language: its code.
      own_point: the library's word for a decimal point.
    """

    num2words: Callable[..., str]
    language: str
    own_point: str | None

    @property
    def family(self) -> str:
        return self.language.partition("_")[0]

    def whole(self, digits: str, **options: Any) -> str | None:
        """The words of a whole number; digit by digit with a leading zero, or if it is too long."""
        is_number = self._is_short(digits) and digits == str(int(digits))
        found = self._of(int(digits), **options) if is_number else None
        return found or self.digit_by_digit(digits)

    def ordinal(self, digits: str, suffix: str) -> str | None:
        """The ordinal of a whole number; in Romance languages its suffix tells the gender."""
        found = self.whole(digits, to="ordinal")
        for pattern, word, said in _OF_SUFFIX.get(self.family, ()):
            if found is not None and re.fullmatch(pattern, suffix):
                return re.sub(word, said, found)
        return found

    def digit_by_digit(self, digits: str) -> str | None:
        words = [self._of(int(digit)) for digit in digits]
        return None if None in words else " ".join(map(str, words))

    def decimal(self, whole: str, decimals: str) -> str | None:
        before = self.whole(whole)
        own = self._of(f"{whole}.{decimals}") if self._is_short(whole + decimals) else None
        if own not in (None, before):
            return own
        point = _DECIMAL_POINT.get(self.family, self.own_point)
        after = self.digit_by_digit(decimals)
        return f"{before} {point} {after}" if before and point and after else None

    def money(self, match: re.Match[str]) -> str:
        """The words of a match of `_MONEY`, as English says them."""
        one, several, cent, cents = _ENGLISH_MONEY[match["sign"]]
        whole, decimals, scale = _digits(match["whole"]), match["decimals"], match["scale"]
        if scale or (decimals and len(decimals) != 2):
            amount = self.decimal(whole, _digits(decimals)) if decimals else self.whole(whole)
            return f" {amount}{scale or ''} {several} "
        parts = [(whole, one, several)] if int(whole) or not int(decimals or 0) else []
        if int(decimals or 0):
            parts.append((str(int(decimals)), cent, cents))
        said = (
            f"{self.whole(each)} {name if int(each) == 1 else names}" for each, name, names in parts
        )
        return f" {' and '.join(said)} "

    def year(self, match: re.Match[str]) -> str:
        """The words of a match of `_YEAR`, as English says them."""
        year = self._of(int(_digits(match["year"])), to="year")
        if year is None:
            return match[0]
        if not match["decade"]:
            return f" {year} "
        return f" {year.removesuffix('y')}ies " if year.endswith("y") else f" {year}s "

    def _of(self, number: int | str, **options: Any) -> str | None:
        try:
            return self.num2words(number, lang=self.language, **options).strip() or None
        except Exception:  # Each of its languages fails in ways of its own, at other numbers.
            return None

    def _is_short(self, digits: str) -> bool:
        return len(digits) <= _MOST_DIGITS_OF.get(self.family, _MOST_DIGITS)


def _pattern(language: str) -> re.Pattern[str]:
    """Finds a number as a language writes it, with what makes other words of it."""
    thousands, decimal = _ENGLISH
    if language in _POINTS:
        thousands, decimal = ".", ","
    elif language in _SPACES:
        thousands, decimal = " \u00a0\u202f", ","
    return re.compile(
        rf"(?P<whole>{_GROUPED.format(thousands)}|\d+)(?:{re.escape(decimal)}(?P<decimals>\d+))?"
        rf"(?:(?P<ordinal>{_ORDINALS.get(language, '(?!)')})\b)?(?P<percent>[ \u00a0\u202f]?%)?"
    )


def _english_fraction(match: re.Match[str]) -> str:
    """1½ is one and a half."""
    before = f"{match['whole']} and" if match["whole"] else ""
    return f"{before} {_ENGLISH_FRACTIONS[match['sign']]} "


def _digits(text: str) -> str:
    """The digits of a number in any script, as 0 to 9."""
    return "".join(str(int(character)) for character in text if character.isdigit())
