"""Distinguishes transcripts with words, empty transcripts, and placeholders."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from tfkd.text.normalisation import normalise, visible
from tfkd.text.tags import is_sound, without_tags

# What tables and scoring tools write where there is no transcript. Others, such as "null", which is
# German for zero, may have been said.
_PLACEHOLDERS = frozenset(
    {"nan", "NaN", "N/A", "n/a", "#N/A", "<NA>", "<na>", "NULL", "<null>", "<NULL>", "None", "\\N"}
    | {"(null)", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#DIV/0!", "#NULL!"}
    | {"IGNORE_TIME_SEGMENT_IN_SCORING", "ignore_time_segment_in_scoring"}
)
# Subtitles from the web may be escaped twice: &amp;#39;.
_MOST_ESCAPES = 3
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});")


@dataclass(frozen=True)
class NormalisedTranscript:
    """A normalised transcript.

    Attributes:
      text: the words; "" if the transcript says that nothing is said; None if there is none.
      tags: the tags that were removed.
    """

    text: str | None
    tags: tuple[str, ...] = ()


def transcript_of(
    text: str | None,
    *,
    extra_characters: str = "",
    tags: str = "drop",
    is_written_by_model: bool = False,
) -> NormalisedTranscript:
    """Normalises a transcript, and decides what one without words means.

    An empty transcript, or one of tags of sounds alone ([noise], <sil>), means that nothing is
    said. One of punctuation alone ("-", "_", "...") or of what tables write for nothing (NaN, N/A)
    is a placeholder, and one of other tags alone (<unk>, (( )), [redacted]) may leave words out:
    neither is a transcript. Entities of HTML (&amp;, &#39;) become what they stand for.

    Args:
      text: the transcript; None if there is none.
      extra_characters: characters that normalisation keeps.
      tags: "drop" or "keep"; see `without_tags`.
      is_written_by_model: whether it is what a model heard, and so no cell of a table: "None" and
        "N/A" are words then, and punctuation alone means that it heard nothing.

    >>> from tfkd.text import transcript_of
    >>> transcript_of("[noise] Yes!").text, transcript_of("").text, transcript_of("-").text
    ('yes', '', None)
    """
    if text is None:
        return NormalisedTranscript(None)
    if tags == "drop" and not is_written_by_model and text.strip() in _PLACEHOLDERS:
        return NormalisedTranscript(None, (text.strip(),))
    for _ in range(_MOST_ESCAPES):
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    said, found = without_tags(text, extra_characters) if tags == "drop" else (text, ())
    words = normalise(said, extra_characters=extra_characters)
    if words:
        return NormalisedTranscript(words, found)
    is_empty = is_written_by_model or not visible(said).strip()
    says_nothing = is_empty and all(map(is_sound, found))
    return NormalisedTranscript("" if says_nothing else None, found)
