"""Distinguishes transcripts with words, empty transcripts, and placeholders."""

from __future__ import annotations

from dataclasses import dataclass

from tfkd.text.normalisation import normalise, visible
from tfkd.text.tags import is_unwritten, without_tags


@dataclass(frozen=True)
class Transcript:
    """A normalised transcript.

    Attributes:
      text: the words; "" if the transcript says that nothing is said; None if there is none.
      tags: the tags that were removed.
    """

    text: str | None
    tags: tuple[str, ...] = ()


def transcript_of(
    text: str | None, *, extra_characters: str = "", tags: str = "drop"
) -> Transcript:
    """Normalises a transcript, and decides what one without words means.

    An empty transcript, or one of tags of sounds alone ([noise], <sil>), means that nothing is
    said. One of punctuation alone ("-", "_", "...") is a placeholder, and one of tags for unwritten
    words alone (<unk>, (( ))) leaves words out: neither is a transcript.

    Args:
      text: the transcript; None if there is none.
      extra_characters: characters that normalisation keeps.
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
