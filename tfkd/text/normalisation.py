"""The one form that transcripts are trained on and scored in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The device side imports this module and has no YAML reader.
    pass


# What people and word processors type for an apostrophe: quotes, modifier letters, prime, accents.
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02b9\u02bb\u02bc\u2032\u00b4\u0060\u055a\ua78c", "'")
)


def normalise(text: str, *, extra_characters: str = "") -> str:
    """Brings a transcript into the one form that is trained on and scored.

    The rule: Unicode NFKC, lower case, typographic apostrophes to '. Any character that is not a
    letter (with the combining marks that follow it), a digit, or ' becomes a space, and so does an
    apostrophe that is not inside a word. White space is folded. Applying the rule again changes
    nothing.

    Args:
      extra_characters: kept too, as they stand after NFKC and lower case.
    """
    # The accent that stands for an apostrophe would fall apart in NFKC, so apostrophes come first;
    # some come out of NFKC, so they come again. Lower case can undo NFKC.
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    text = _keep_words(text, extra_characters)
    if "'" not in extra_characters:
        outside = r"\s'" + re.escape(extra_characters)
        text = re.sub(f"(?<![^{outside}])'|'(?![^{outside}])", " ", text)
    return " ".join(text.split())


def extra_characters_of(pieces: Iterable[str]) -> str:
    """Characters that a vocabulary spells and `normalise` would take out: transcripts kept them."""
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
