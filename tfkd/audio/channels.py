"""Makes one waveform of the channels of a recording, and notes channels that differ."""

from __future__ import annotations

import numpy as np

from tfkd.audio.unusable import UnusableAudio

# Correlation below which each channel may hold a speaker of its own.
_ALIKE = 0.5
# Correlation at which two channels are one signal, recorded with the wires of one swapped.
_OPPOSITE = -0.9
# Energy relative to the loudest channel (-40 dB) below which a channel cannot spoil the mean.
_QUIET = 1e-4
_AS_LOUD = 0.99


def one_channel(
    frames: np.ndarray, channel: int | None, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Takes one channel of frames [N, channels], or their mean if none is asked for.

    The mean of channels of opposite phase would be silence: of those the loudest is taken.

    Returns:
      The waveform, float32 [N], and a sentence if the channels differ or cancel each other.
    Raises:
      UnusableAudio: bad_channel, if there is no such channel.
    """
    count = frames.shape[1]
    if channel is not None:
        if not 0 <= channel < count:
            what = f"channel {channel} is asked for, but the recording has {count}, counted from 0"
            raise UnusableAudio("bad_channel", what, path=name, remedy="correct the manifest")
        return np.ascontiguousarray(frames[:, channel]), ()
    mean = frames.mean(axis=1, dtype=np.float32)
    if count == 1:
        return mean, ()
    loudest, correlation = _least_alike(frames)
    if correlation <= _OPPOSITE:
        remark = f"its channels cancel each other, and channel {loudest} alone is read"
        return np.ascontiguousarray(frames[:, loudest]), (remark,)
    if correlation < _ALIKE:
        shown = round(correlation, 2) + 0  # Adding 0 takes the sign of a zero away.
        remark = (
            f"its channels differ (correlation {shown:.2f}), and their mean is read; if each "
            "holds a speaker of its own, name one with `channel` in the manifest"
        )
        return mean, (remark,)
    return mean, ()


def _least_alike(frames: np.ndarray) -> tuple[int, float]:
    """Returns the loudest channel and the lowest correlation of another with it; 1 for silence."""
    centred = frames - frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        products = centred.T @ centred
    energy = np.diag(products)
    if not np.isfinite(products).all():  # For check_waveform to report.
        return 0, 1.0
    # Of equally loud ones the first.
    loudest = int((energy >= _AS_LOUD * energy.max()).argmax())
    others = energy > _QUIET * energy[loudest]
    if not energy[loudest] > 0 or others.sum() < 2:
        return loudest, 1.0
    alike = products[loudest, others] / np.sqrt(energy[loudest] * energy[others])
    return loudest, float(alike.min())
