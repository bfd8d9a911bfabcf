"""The utterances and rejections that every reader of a corpus returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tfkd.audio.commands import Command


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one, and its transcript.

    Attributes:
      audio: file of the recording; it may be missing.
      text: transcript as the corpus has it, not normalised. None: nobody wrote down what is said;
        "": somebody wrote down that nothing is said.
      start_seconds: where the utterance begins in the recording; None: at its start.
      end_seconds: where it ends; None: at its end.
      channel: of the recording, counted from 0; None: the mean of all.
      command: writes the audio, where `audio` alone is not it, or may not be readable.
      declared_seconds: how long the corpus says that the recording is; None if it does not say.

    >>> from pathlib import Path
    >>> from tfkd.corpora import Utterance
    >>> Utterance("call-7", Path("call.wav"), "hello", channel=1).start_seconds is None
    True
    """

    utterance_id: str
    audio: Path
    text: str | None = None
    speaker: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    channel: int | None = None
    command: Command | None = None
    declared_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Rejection:
    """An utterance that is not used, or a line of a manifest that is not one.

    Attributes:
      utterance_id: its id, or file:line where a line has none.
      reason: slug: missing_file, undecodable_audio, truncated_audio, duplicate_id, too_short,
        too_long, not_finite, silent, bad_line, bad_channel, untokenisable_text ...
      detail: what is wrong and what to do about it, in words.
      source: file and line it comes from.
    """

    utterance_id: str
    reason: str
    detail: str
    source: str


Corpus = tuple[list[Utterance], list[Rejection]]
