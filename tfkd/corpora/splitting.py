"""Recordings without text that are too long, cut into pieces where they are quietest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from tfkd.audio.reading import UnusableAudio, read_part
from tfkd.corpora import Utterance
from tfkd.corpora.pieces import Piece
from tfkd.errors import ManifestError

# A cut lies in the middle of the quietest stretch of this length: shorter ones lie inside words.
_PAUSE_SECONDS = 0.3
_STEP_SECONDS = 0.01


def split_long(
    utterances: Sequence[Utterance], *, sample_rate_hz: int, max_seconds: float, workers: int
) -> tuple[list[Utterance], list[Piece]]:
    """Puts pieces of at most `max_seconds` in the place of longer utterances without text.

    The pieces of `a` are `a-0001`, `a-0002`, ... Together they are all of `a`. Text would not know
    which piece it belongs to, so utterances with text stay as they are, and so does audio that
    cannot be read.

    Args:
      sample_rate_hz: the rate that the pieces are read at later; they fit `max_seconds` there.
    Raises:
      ManifestError: if another utterance has the id of a piece.
    """

    def split(utterance: Utterance) -> list[Piece]:
        return [] if utterance.text is not None else _pieces(utterance, sample_rate_hz, max_seconds)

    kept: list[Utterance] = []
    pieces: list[Piece] = []
    with ThreadPoolExecutor(workers) as pool:
        found = zip(utterances, pool.map(split, utterances))
        for utterance, own in tqdm(
            found, total=len(utterances), desc="split", unit="utt", disable=None
        ):
            kept.extend([_utterance(utterance, piece) for piece in own] or [utterance])
            pieces.extend(own)
    _check_ids(kept, pieces)
    return kept, pieces


def cut_points(waveform: np.ndarray, rate_hz: int, max_samples: int) -> list[int]:
    """Where to cut waveform [N] into pieces of at most `max_samples`, in rising order.

    Each cut is at the quietest place of what may follow the last one, in the second half of a full
    piece. No piece is shorter than a quarter of `max_samples`, lest a last one holds half a word.
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


def _pieces(utterance: Utterance, sample_rate_hz: int, max_seconds: float) -> list[Piece]:
    """The pieces of an utterance; none if it is short enough, or cannot be used."""
    start, end = utterance.start_seconds, utterance.end_seconds
    try:
        waveform, rate_hz = read_part(utterance.audio, start_seconds=start, end_seconds=end)
    except UnusableAudio:
        return []  # Preparation meets the same error, and names it.
    # Whole samples at the later rate, so that rounding up by one cannot make a piece too long.
    max_samples = math.floor(max_seconds * sample_rate_hz) * rate_hz // sample_rate_hz
    if len(waveform) <= max_samples or not np.isfinite(waveform).all():
        return []
    first = round((start or 0.0) * rate_hz)
    bounds = [0, *cut_points(waveform, rate_hz, max_samples), len(waveform)]
    return [
        Piece(
            utterance_id=f"{utterance.utterance_id}-{number:04d}",
            source_id=utterance.utterance_id,
            source=str(utterance.audio),
            start_seconds=(first + begin) / rate_hz,
            duration_seconds=(after - begin) / rate_hz,
        )
        for number, (begin, after) in enumerate(pairwise(bounds), 1)
    ]


def _utterance(whole: Utterance, piece: Piece) -> Utterance:
    return Utterance(
        piece.utterance_id,
        whole.audio,
        speaker=whole.speaker,
        start_seconds=piece.start_seconds,
        end_seconds=piece.start_seconds + piece.duration_seconds,
    )


def _check_ids(utterances: Sequence[Utterance], pieces: Sequence[Piece]) -> None:
    counts = Counter(utterance.utterance_id for utterance in utterances)
    for piece in pieces:
        if counts[piece.utterance_id] > 1:
            raise ManifestError(
                f"a piece of {piece.source_id} would have the id of another utterance",
                utterance_id=piece.utterance_id,
                remedy="give the long recording another id",
            )
