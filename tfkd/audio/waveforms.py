"""Checks waveforms: finite, of a usable length, not silent, scaled to [-1, 1]."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tfkd.audio.unusable import UnusableAudio
from tfkd.errors import AudioError

# Lossy codecs overshoot full scale a little; floats beyond this are samples that were never scaled.
_UNSCALED_PEAK = 4.0
# No codec overshoots by as much.
_CLIPPED_PEAK = 1.1
# Records hold 16 bits: a waveform that is nowhere louder is stored as silence.
_LEAST_STORED = 0.5 / 32768


def check_waveform(
    waveform: np.ndarray,
    sample_rate_hz: int,
    *,
    min_seconds: float,
    max_seconds: float,
    may_be_silent: bool = False,
) -> None:
    """Refuses a waveform [N] that no recogniser can learn from.

    Args:
      waveform: [N], any float dtype, scaled to [-1, 1].
      min_seconds: the shortest that is accepted.
      max_seconds: the longest that is accepted.
      may_be_silent: whether it is known that nothing is said.
    Raises:
      AudioError: (as `UnusableAudio`) not_finite (NaN or infinity), too_short, too_long, or silent
        (every sample rounds to zero, or to one value, in 16 bits, which is how records hold them).

    >>> import numpy as np
    >>> from tfkd.audio.waveforms import check_waveform
    >>> check_waveform(np.zeros(400), 8000, min_seconds=0.1, max_seconds=30.0)
    Traceback (most recent call last):
        ...
    tfkd.audio.unusable.UnusableAudio: 0.050 s of audio, shorter than min_seconds 0.1 (leave ...
    """
    check_finite(waveform)
    seconds = waveform.size / sample_rate_hz
    remedy = "check how it was recorded, or leave it out"
    if seconds < min_seconds:
        reason, limit = "too_short", f"shorter than min_seconds {min_seconds:g}"
        remedy = "leave it out, or lower prepare.min_seconds"
    elif seconds > max_seconds:
        reason, limit = "too_long", f"longer than max_seconds {max_seconds:g}"
        remedy = "split it, or raise prepare.max_seconds"
    elif may_be_silent:
        return
    elif not waveform.any():
        reason, limit = "silent", "nothing but zeros"
        remedy = "leave it out, or choose a channel that holds speech"
    elif np.abs(waveform).max() <= _LEAST_STORED:
        reason, limit = "silent", "too quiet for 16 bits: it would be stored as zeros"
        remedy = "amplify it: full scale is 1"
    elif np.ptp(waveform) <= 2 * _LEAST_STORED:
        reason, limit = "silent", f"one value throughout, {waveform[0]:g}"
    else:
        return
    raise UnusableAudio(reason, f"{seconds:.3f} s of audio, {limit}", remedy=remedy)


def check_recognisable(waveform: np.ndarray, path: str | Path | None = None) -> None:
    """Refuses arrays in which no recogniser can look for speech.

    Args:
      path: the file that the waveform was read from, to name it.
    Raises:
      AudioError: if it is not of floats in one dimension, is empty, or is not finite.
    """
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        remedy = "average the channels and scale to [-1, 1]"
        if not np.issubdtype(waveform.dtype, np.number):
            remedy = "to read a file, use Run.transcribe or DeviceRecogniser.transcribe_file"
        raise AudioError(
            f"the waveform is {waveform.dtype} {waveform.shape}, not float32 [samples]",
            path=path,
            remedy=remedy,
        )
    if waveform.size == 0:
        raise AudioError("the waveform is empty", path=path, remedy="pass at least one sample")
    if not np.isfinite(waveform).all():
        raise AudioError(
            "the waveform holds NaN or infinite samples",
            path=path,
            remedy="check how it was recorded",
        )


def check_finite(waveform: np.ndarray) -> None:
    """Refuses NaN and infinity.

    Raises:
      UnusableAudio: not_finite.
    """
    bad = waveform.size - np.count_nonzero(np.isfinite(waveform))
    if bad:
        raise UnusableAudio(
            "not_finite",
            f"{bad} of {waveform.size} samples are NaN or infinite",
            remedy="write the file again from its source",
        )


def remarks_on_clipping(waveform: np.ndarray) -> tuple[str, ...]:
    """Says which share of the samples `within_full_scale` clips, if a codec is not to blame."""
    peak = _peak(waveform)
    if not _CLIPPED_PEAK < peak < math.inf:  # NaN is reported elsewhere.
        return ()
    share = 100 * float(np.mean(np.abs(waveform) > 1))
    return (f"reaches {peak:.2f} times full scale, so {share:.2g} % of its samples are clipped",)


def _peak(waveform: np.ndarray) -> float:
    """The largest magnitude, without a copy of the waveform; NaN if a sample is."""
    return float(np.maximum(waveform.max(initial=0.0), -waveform.min(initial=0.0)))


def within_full_scale(waveform: np.ndarray, name: str) -> np.ndarray:
    """Clips a waveform to [-1, 1]; NaN and infinity stay, for `check_waveform` to report.

    Raises:
      UnusableAudio: unscaled_audio, if samples go so far beyond 1 that they were never scaled.
    """
    peak = _peak(waveform)
    if not math.isfinite(peak) or peak <= 1:
        return waveform
    if peak > _UNSCALED_PEAK:
        raise UnusableAudio(
            "unscaled_audio",
            f"float samples reach {peak:g}, full scale is 1",
            path=name,
            remedy="scale the samples to [-1, 1]",
        )
    return np.clip(waveform, -1.0, 1.0)
