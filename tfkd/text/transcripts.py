"""Tells transcripts of words from those of silence, and both from placeholders."""

from __future__ import annotations

from dataclasses import dataclass

from tfkd.text.normalisation import normalise, visible
from tfkd.text.tags import is_unwritten, without_tags


@dataclass(frozen=True)
class Transcript:
    """A transcript as it is stored.

    Attributes:
      text: normalised. "": somebody wrote down that nothing is said. None: there is no transcript.
      tags: what was left out because nobody said it.
    """

    text: str | None
    tags: tuple[str, ...] = ()


def transcript_of(
    text: str | None, *, extra_characters: str = "", tags: str = "drop"
) -> Transcript:
    """Normalises a transcript, and decides what one without words means.

    The rule: an empty one, or one of nothing but tags of sounds ([noise], <sil>), says that nothing
    is said. One of nothing but marks ("-", "_", "...") is a placeholder, and one of nothing but
    tags of words that nobody wrote down (<unk>, (( ))) knows of words: both are no transcript.

    Args:
      extra_characters: kept in normalisation.
      tags: "drop" or "keep"; see `without_tags`.

    >>> from tfkd.text import transcript_of
    >>> transcript_of("[noise] Yes!").text, transcript_of("").text, transcript_of("-").text
    ('yes', '', None)
    """
    if text is None:
        return Transcript(None)
    said, found = without_tags(text, extra_characters) if tags == "drop" else (text, ())
    words = normalise(said, extra_characters=extra_characters)
    if words:
        return Transcript(words, found)
    says_nothing = not visible(said).strip() and not any(map(is_unwritten, found))
    return Transcript("" if says_nothing else None, found)
