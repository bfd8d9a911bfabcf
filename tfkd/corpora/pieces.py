"""The origin of a piece of a long recording."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """The recording and the part of it that a piece was cut from.

    Attributes:
      source_id: id of the utterance that was cut.
      source: its audio file.
      start_seconds, duration_seconds: of the piece, in that file.
    """

    utterance_id: str
    source_id: str
    source: str
    start_seconds: float
    duration_seconds: float
