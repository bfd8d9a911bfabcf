"""Cuts a recording into segments about as long as the utterances that a recogniser learned from.

A recogniser that learned from short utterances makes many errors in a recording of many utterances
(docs/recipes/long-recordings.md).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from tfkd.audio.activity import cut_points

_LOG = logging.getLogger("tfkd")

# What is only somewhat longer than the usual utterance is more often one than two.
LONGEST_WHOLE = 1.25


class _Hypothesis(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> str | None: ...


Found = TypeVar("Found", bound=_Hypothesis)


@dataclass(frozen=True)
class Segment(Generic[Found]):
    """The hypotheses of a part of a recording.

    Attributes:
      start_seconds, end_seconds: its place in the recording.
      hypotheses: best first; none if no speech was found.
    """

    start_seconds: float
    end_seconds: float
    hypotheses: tuple[Found, ...]

    @property
    def text(self) -> str:
        """The text of the best hypothesis, "" if there is none."""
        return self.hypotheses[0].text if self.hypotheses else ""

    @property
    def is_cut_short(self) -> bool:
        """Whether the best hypothesis reached the length limit, so words may be missing."""
        return any(each.finish_reason == "max_steps" for each in self.hypotheses[:1])


def recognise_segments(
    waveform: np.ndarray,
    rate_hz: int,
    usual_seconds: float,
    recognise: Callable[[np.ndarray], tuple[Found, ...]],
    *,
    max_seconds: float = math.inf,
) -> tuple[Segment[Found], ...]:
    """Cuts a recording where it is quietest, and recognises each segment.

    A recording of at most 1.25 times `usual_seconds` is one segment, if it may be. Of a longer one,
    no segment is longer than `usual_seconds`, and together they are all of it.

    Args:
      waveform: float32 [N].
      rate_hz: samples in a second.
      usual_seconds: what most utterances that the recogniser learned from do not exceed.
      recognise: maps float32 [n] to hypotheses, best first.
      max_seconds: the longest segment that it takes, at least `usual_seconds`.
    Returns:
      The segments in order.

    >>> import numpy as np
    >>> from tfkd.audio.segments import recognise_segments
    >>> waveform = np.ones(1000, np.float32)
    >>> waveform[640:760] = 0.0
    >>> [each.end_seconds for each in recognise_segments(waveform, 100, 8.0, lambda part: ())]
    [10.0]
    >>> [each.end_seconds for each in recognise_segments(waveform, 100, 7.5, lambda part: ())]
    [6.55, 10.0]
    """
    is_whole = len(waveform) <= min(LONGEST_WHOLE * usual_seconds, max_seconds) * rate_hz
    cuts = [] if is_whole else cut_points(waveform, rate_hz, max(1, round(usual_seconds * rate_hz)))
    return tuple(
        Segment(begin / rate_hz, end / rate_hz, recognise(waveform[begin:end]))
        for begin, end in pairwise([0, *cuts, len(waveform)])
    )


def text_of(segments: Sequence[Segment]) -> str:
    """Joins the texts of the best hypotheses."""
    return " ".join(segment.text for segment in segments if segment.text)


def warn_if_cut_short(segments: Sequence[Segment], path: str | Path, remedy: str) -> None:
    """Warns if the best hypothesis of a segment reached the length limit of the search.

    Args:
      path: the recording.
      remedy: how to raise the limit.
    """
    cut = [each.start_seconds for each in segments if each.is_cut_short]
    if cut:
        _LOG.warning(
            "%s: the limit of tokens cut the text short in %d of %d segments, first at %.1f s: %s",
            path,
            len(cut),
            len(segments),
            cut[0],
            remedy,
        )
