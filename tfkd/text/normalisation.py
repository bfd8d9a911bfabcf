"""Normalises transcripts to the form that is trained on and scored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Characters that stand for an apostrophe: quotes, modifier letters, accents. The last two are
# quotes of Windows-1252 that were read as Latin-1.
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02b9\u02bb\u02bc\u2032\u00b4\u0060\u055a\ua78c\x91\x92", "'")
)
# Invisible characters outside of category Cf: control characters that are no white space, and what
# Unicode calls default ignorable. They must not separate or distinguish words.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# Fractions, superscripts, subscripts and numbers in circles: NFKC would join them to digits beside.
_SMALL_NUMBERS = "\xb2\xb3\xb9\xbc-\xbe\u2070-\u2089\u2150-\u215e\u2189\u2460-\u249b\u24ea"
_SMALL_NUMBER = re.compile(f"[{_SMALL_NUMBERS}]")
_BETWEEN_NUMBERS = re.compile(rf"(?<=\d)(?=[{_SMALL_NUMBERS}])|(?<=[{_SMALL_NUMBERS}])(?=\d)")
_DOTTED_I = re.compile("i\u0307+")


def apart(text: str) -> str:
    """Makes fractions, superscripts, subscripts and numbers in circles numbers of their own.

    >>> from tfkd.text.normalisation import apart
    >>> apart("m\u00b2")
    'm 2 '
    """
    return _SMALL_NUMBER.sub(lambda match: f" {unicodedata.normalize('NFKC', match[0])} ", text)


def normalise(text: str, *, extra_characters: str = "") -> str:
    """Normalises a transcript to the form that is trained on and scored.

    Invisible characters (category Cf, such as the soft hyphen, joiners and BOM, and control
    characters) are removed. A fraction or superscript is a number of its own: 1\u00bd is "1 1 2".
    Then come Unicode NFKC, lower case, and ' for typographic apostrophes. Every character that is
    not a letter (with the combining marks that follow it), a digit, or an apostrophe inside a word
    becomes a space. Runs of white space become one space. Normalised text does not change when it
    is normalised again.

    The letter I becomes i in every language, and so does the Turkish I with a dot (U+0130), without
    the combining dot that Unicode gives it; U+0131, i without a dot, stays. Convert Turkish or
    Azeri in capitals to lower case by its own rule first.

    Args:
      text: the transcript.
      extra_characters: characters to keep, in their form after NFKC and lower case; U+200C and
        U+200D among them keep the joiners of Persian and Sinhala.

    >>> from tfkd.text import normalise
    >>> normalise("Don\u2019t STOP: micro\u00adphone, \u0130zmir!")
    "don't stop microphone izmir"
    """
    text = _BETWEEN_NUMBERS.sub(" ", visible(text, extra_characters))
    # Translate apostrophes before NFKC, which would decompose an accent that stands for one, and
    # again after it, because it may produce some. Apply NFKC again, because lower case may undo it.
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    text = _DOTTED_I.sub("i", text)
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    text = _keep_words(text, extra_characters)
    if "'" not in extra_characters:
        outside = r"\s'" + re.escape(extra_characters)
        text = re.sub(f"(?<![^{outside}])'|'(?![^{outside}])", " ", text)
    return " ".join(text.split())


def visible(text: str, kept: str = "") -> str:
    """Removes invisible characters from a text, except for those in `kept`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        for character in text
        if character in kept
        or not (unicodedata.category(character) == "Cf" or _INVISIBLE.match(character))
    )


def extra_characters_of(pieces: Iterable[str]) -> str:
    """Finds the characters of a vocabulary that `normalise` removes unless they are kept."""
    characters = set("".join(pieces)) - set(" '")
    return "".join(sorted(c for c in characters if _keep_words(f"a{c}", "")[1] == " "))


def _keep_words(text: str, extra_characters: str) -> str:
    kept = []
    in_word = False
    for character in text:
        is_mark = in_word and unicodedata.category(character) in ("Mn", "Mc")
        in_word = character.isalnum() or is_mark
        keep = in_word or character == "'" or character in extra_characters
        kept.append(character if keep else " ")
    return "".join(kept)
