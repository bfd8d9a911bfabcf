"""Finds the quiet places at which a long recording is cut."""

from __future__ import annotations

import numpy as np

# A cut lies in the middle of the quietest stretch of this length: shorter ones lie inside words.
_PAUSE_SECONDS = 0.3
_STEP_SECONDS = 0.01


def cut_points(waveform: np.ndarray, rate_hz: int, max_samples: int) -> list[int]:
    """Finds where to cut waveform [N] into pieces of at most `max_samples`, in rising order.

    Each cut is at the quietest place in the second half of the longest piece that can begin at the
    cut before. No piece is shorter than a quarter of `max_samples`, so that the last one does not
    hold half a word.

    Args:
      waveform: [N], any float dtype.
      rate_hz: samples in a second.
      max_samples: the longest piece.
    Returns:
      The first sample of each piece but the first.

    >>> import numpy as np
    >>> from tfkd.audio.activity import cut_points
    >>> waveform = np.ones(1000)
    >>> waveform[640:760] = 0.0
    >>> cut_points(waveform, rate_hz=100, max_samples=800)
    [655]
    """
    cuts: list[int] = []
    start = 0
    while (remaining := len(waveform) - start) > max_samples:
        latest = min(max_samples, remaining - max_samples // 4)
        start += _quietest(waveform[start : start + max_samples], latest // 2, latest, rate_hz)
        cuts.append(start)
    return cuts


def _quietest(waveform: np.ndarray, first: int, last: int, rate_hz: int) -> int:
    """The middle of the stretch of least mean energy, among middles `first` to `last`."""
    half = max(1, round(_PAUSE_SECONDS * rate_hz / 2))
    middles = np.arange(max(first, 1), last + 1, max(1, round(_STEP_SECONDS * rate_hz)))
    begins, ends = np.maximum(middles - half, 0), np.minimum(middles + half, len(waveform))
    energy = np.append(0.0, np.cumsum(np.square(waveform, dtype=np.float64)))
    return int(middles[np.argmin((energy[ends] - energy[begins]) / (ends - begins))])
