"""Cuts recordings without text that are too long into pieces, where they are quietest."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from tfkd.audio.activity import cut_points
from tfkd.audio.reading import read_recording
from tfkd.audio.segments import LONGEST_WHOLE
from tfkd.audio.unusable import UnusableAudio
from tfkd.corpora import Utterance
from tfkd.corpora.pieces import Piece
from tfkd.environment import memory_bytes
from tfkd.errors import ManifestError
from tfkd.progress import progress_bar

# Longer recordings are decoded by few threads at a time: their samples fill the memory.
_LONG_SECONDS = 600
# Room for one channel of some hours at 44.1 kHz.
_BYTES_OF_LONG = 1 << 32


def split_long(
    utterances: Sequence[Utterance],
    *,
    sample_rate_hz: int,
    max_seconds: float,
    piece_seconds: float | None = None,
    workers: int,
) -> tuple[list[Utterance], list[Piece]]:
    """Replaces utterances without text that are too long by pieces.

    Too long is what exceeds `max_seconds`, or `piece_seconds` by more than a quarter.

    The pieces of `a` are `a-0001`, `a-0002`, ... Together they are all of `a`. Text would not know
    which piece it belongs to, so utterances with text stay as they are, and so does audio that
    cannot be read.

    Args:
      sample_rate_hz: the rate that the pieces are read at later; they fit their limit there.
      max_seconds: the longest utterance.
      piece_seconds: the longest piece; None for `max_seconds`.
    Raises:
      ManifestError: if another utterance has the id of a piece.
    """

    memory = threading.Semaphore(max(1, (memory_bytes() or 0) // _BYTES_OF_LONG))

    def split(utterance: Utterance) -> list[Piece]:
        if utterance.text is not None:
            return []
        limits = sample_rate_hz, max_seconds, piece_seconds
        try:
            return _pieces(utterance, *limits, decoded_seconds=_LONG_SECONDS)
        except UnusableAudio:  # It is longer.
            with memory:
                return _pieces(utterance, *limits, decoded_seconds=math.inf)

    kept: list[Utterance] = []
    pieces: list[Piece] = []
    with ThreadPoolExecutor(workers) as pool:
        found = zip(utterances, pool.map(split, utterances), strict=True)
        for utterance, own in progress_bar(found, total=len(utterances), desc="split", unit="utt"):
            kept.extend([piece_of(utterance, piece) for piece in own] or [utterance])
            pieces.extend(own)
    _check_ids(kept, pieces)
    return kept, pieces


def _pieces(
    utterance: Utterance,
    sample_rate_hz: int,
    max_seconds: float,
    piece_seconds: float | None,
    decoded_seconds: float,
) -> list[Piece]:
    """Returns the pieces of an utterance; none if it is short enough, or cannot be used.

    Raises:
      UnusableAudio: if it is longer than `decoded_seconds`.
    """
    start, end = utterance.start_seconds, utterance.end_seconds
    try:
        recording = read_recording(
            utterance.audio,
            start_seconds=start,
            end_seconds=end,
            channel=utterance.channel,
            max_seconds=decoded_seconds,
            command=utterance.command,
        )
    except UnusableAudio as error:
        if error.reason == "too_long":
            raise
        return []  # Preparation meets the same error, and names it.
    waveform, rate_hz = recording.waveform, recording.sample_rate_hz

    def samples_of(seconds: float) -> int:
        # Whole samples at the later rate, so that rounding up by one cannot make a piece too long.
        return math.floor(seconds * sample_rate_hz) * rate_hz // sample_rate_hz

    longest_whole = max_samples = samples_of(max_seconds)
    if piece_seconds is not None:
        longest_whole = samples_of(min(max_seconds, LONGEST_WHOLE * piece_seconds))
        max_samples = samples_of(piece_seconds)
    if len(waveform) <= longest_whole or not np.isfinite(waveform).all():
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


def piece_of(whole: Utterance, piece: Piece) -> Utterance:
    """Returns the part of an utterance that a piece describes, as an utterance without text."""
    return Utterance(
        piece.utterance_id,
        whole.audio,
        speaker=whole.speaker,
        start_seconds=piece.start_seconds,
        end_seconds=piece.start_seconds + piece.duration_seconds,
        channel=whole.channel,
        command=whole.command,
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
