"""Removes tags from transcripts: marks of sounds and punctuation in brackets, which nobody said.

References:
  Switchboard and Fisher (LDC): [noise], [laughter-yes], (( )). GigaSpeech: <COMMA>, <SIL>.
  TED-LIUM: {BREATH}, <sil>, and(2). CMU Sphinx: ++UM++. Whisper: [MUSIC], (laughs). Kaldi: !SIL.
  Scoring (NIST): %HESITATION. TalkBank: &=laughs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Nested brackets are removed to this depth.
_MAX_NESTING = 4
_OPENING = re.compile(r"[\[{<(+*!%&]")
# Brackets of Chinese and Japanese, which are read as the ones above. 【】 may hold words that are
# said, and titles stand in brackets that are mere punctuation.
_WIDE = dict(zip("［］｛｝＜＞（）【】", "[]{}<>()()", strict=True))
_SQUARE = re.compile(r"\[[^\[\]]*\]")
_CURLY = re.compile(r"\{[^{}]*\}")
# The third is how Whisper writes languages, times and ends.
_ANGLE = re.compile(
    r"<[^\W\d_/!][^<>]{0,60}>|</[^<>]{0,60}>|<\|[^<>|]{0,60}\|>|<![^<>]{0,60}>|<\s*>"
)
_ROUND = re.compile(r"\(([^()]{1,60})\)")
_DOUBLE_ROUND = re.compile(r"\(\(([^()]*)\)\)")
_SAID_WHILE_LAUGHING = re.compile(r"\[laughter-([^\[\]]+)\](?=(\[)?)", re.IGNORECASE)
_VARIANT = re.compile(r"(?<=\w)\(\d+\)")
_PLUSES = re.compile(r"\+\+[^+\s]{1,40}\+\+")
_STARS = re.compile(r"\*([^*]{1,40})\*")
_MARKED = re.compile(r"(?<!\S)(?:[!%]|&=)([^\W\d_]+)(?!\S)")
# Nothing is said in these.
_SOUNDS = {
    "applause", "applauding", "beep", "blank", "blank_audio", "breath", "breathing", "breathes",
    "clapping", "click", "clears_throat", "cheering", "chuckle", "chuckles", "clicking",
    "cough", "coughing", "coughs", "crying", "eps", "gasp", "gasps", "groans", "hum", "humming",
    "lau", "laugh", "laughing", "laughs", "laughter", "lipsmack", "music", "music_playing",
    "noise", "no_audio", "no_speech", "nospeech", "nsn", "pad", "pause", "pauses", "scoffs", "sigh",
    "sighing", "sighs", "sil", "silence", "silent", "smack", "sneeze", "sniffing", "sniffs", "sp",
    "static", "whistling", "yawn",
}  # fmt: skip
# Something may be said in these, but it is not written down.
_UNWRITTEN = {
    "crosstalk", "foreign_language", "hesitation", "inaudible", "indiscernible", "indistinct",
    "mumble", "mumbles", "singing", "speaking_foreign_language",
    "speaking_in_foreign_language", "unclear", "unintelligible", "whispering",
}  # fmt: skip
# These are sounds after any one word, too: (upbeat music).
_LAST_OF_SOUNDS = {"music", "noise", "noises", "laughter", "applause", "sounds", "chatter"}
_MOST_SOUND_WORDS = 2


def without_tags(text: str, kept: str = "") -> tuple[str, tuple[str, ...]]:
    """Removes the tags from a transcript.

    Removed are: [], {} and <> with their content; round brackets and stars that name a sound, such
    as (laughter) and *coughs*; ++um++; !SIL and %HESITATION; and the number of a pronunciation, as
    in and(2). Uncertain words in (( )) stay, and so does a word that was said while laughing,
    [laughter-yes].

    Args:
      text: the transcript.
      kept: characters of the vocabulary; brackets among them are not removed.
    Returns:
      The rest of the text, and the tags.

    >>> from tfkd.text import without_tags
    >>> rest, tags = without_tags("[noise] uh ((yeah)) and(2) <COMMA> so (laughter)")
    >>> " ".join(rest.split()), tags
    ('uh yeah and so', ('[noise]', '<COMMA>', '(laughter)'))
    """
    text = "".join(each if each in kept else _WIDE.get(each, each) for each in text)
    if not _OPENING.search(text):
        return text, ()
    tags: list[str] = []

    def drop(match: re.Match) -> str:
        # Brackets around a tag that went hold nothing but its place.
        if not (tags and re.fullmatch(r"\W\s+\W", match[0])):
            tags.append(match[0])
        return " "

    def drop_sound(match: re.Match) -> str:
        return drop(match) if _is_named(match[1]) else match[0]

    def open_doubt(match: re.Match) -> str:
        is_said = match[1].strip() and not _is_named(match[1])
        return f" {match[1]} " if is_said else drop(match)

    if "[" not in kept:
        text = _SAID_WHILE_LAUGHING.sub(lambda word: word[1] + (" " if word[2] else ""), text)
        text = _repeated(_SQUARE, drop, text)
    if "{" not in kept:
        text = _repeated(_CURLY, drop, text)
    if "<" not in kept:
        text = _repeated(_ANGLE, drop, text)
    if "(" not in kept:
        text = _DOUBLE_ROUND.sub(open_doubt, _VARIANT.sub("", text))
        text = _ROUND.sub(drop_sound, text)
    if "+" not in kept:
        text = _PLUSES.sub(drop, text)
    if "*" not in kept:
        text = _STARS.sub(drop_sound, text)
    if not set("!%&") & set(kept):
        text = _MARKED.sub(drop_sound, text)
    return text, tuple(tags)


def is_sound(tag: str) -> bool:
    """Whether a tag stands for a sound in which nothing is said.

    >>> from tfkd.text.tags import is_sound
    >>> is_sound("[noise]"), is_sound("<unk>"), is_sound("[redacted]"), is_sound("(( ))")
    (True, False, False, False)
    """
    name = _name(tag)
    *others, last = name.split("_")
    return name in _SOUNDS or (0 < len(others) < _MOST_SOUND_WORDS and last in _LAST_OF_SOUNDS)


def _repeated(pattern: re.Pattern, drop: Callable[[re.Match], str], text: str) -> str:
    """Removes a pattern repeatedly, because brackets may be nested: inner ones first."""
    for _ in range(_MAX_NESTING):
        text = pattern.sub(drop, text)
    return text


def _is_named(words: str) -> bool:
    """Whether words are a tag in brackets that may also hold spoken words."""
    return is_sound(words) or _name(words) in _UNWRITTEN


def _name(tag: str) -> str:
    """Converts a tag to the form of the lists above."""
    return "_".join(re.findall(r"[^\W\d_]+", tag.lower()))
