"""Where a piece of a long recording comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Where a piece of a recording comes from.

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
