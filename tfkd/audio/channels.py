"""Makes one waveform of the channels of a recording, and notes channels that differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tfkd.audio.unusable import UnusableAudio

# Correlation below which each channel may hold a speaker of its own.
_ALIKE = 0.5
# Correlation at which two channels are one signal, recorded with the wires of one swapped.
_OPPOSITE = -0.9
# Energy relative to the loudest channel (-40 dB) below which a channel cannot spoil the mean.
_QUIET = 1e-4
_AS_LOUD = 0.99


class Likeness(NamedTuple):
    """How alike the channels of a recording are.

    Attributes:
      loudest: the loudest channel, of equally loud ones the first.
      correlation: the lowest of another channel that is not quiet with it; 1 without any.
    """

    loudest: int
    correlation: float

    @property
    def cancels(self) -> bool:
        """Whether channels have opposite phase, so that their mean would be silence."""
        return self.correlation <= _OPPOSITE

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence if the channels differ or cancel each other."""
        if self.cancels:
            return (f"its channels cancel each other, and channel {self.loudest} alone is read",)
        if self.correlation >= _ALIKE:
            return ()
        shown = round(self.correlation, 2) + 0  # Adding 0 takes the sign of a zero away.
        remark = (
            f"its channels differ (correlation {shown:.2f}), and their mean is read; if each "
            "holds a speaker of its own, name one with `channel` in the manifest"
        )
        return (remark,)


def mean_of_channels(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, Likeness]:
    """Averages the channels of blocks [n, channels] float32 into one waveform, float32 [N].

    Only the waveform is kept, so that recordings of hours take the memory of one channel.
    """
    moments = _Moments()
    waveform = _joined(block.mean(axis=1, dtype=np.float32) for block in moments.seen(blocks))
    return waveform, moments.likeness()


def channel_of(blocks: Iterable[np.ndarray], channel: int, name: str) -> np.ndarray:
    """Takes one channel of blocks [n, channels], float32 [N].

    Raises:
      UnusableAudio: bad_channel, if there is no such channel.
    """

    def taken() -> Iterator[np.ndarray]:
        for block in blocks:
            count = block.shape[1]
            if not 0 <= channel < count:
                raise UnusableAudio(
                    "bad_channel",
                    f"channel {channel} is asked for, but the recording has {count}, "
                    "counted from 0",
                    path=name,
                    remedy="correct the manifest",
                )
            yield block[:, channel]

    return _joined(taken())


def _joined(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Concatenates blocks [n] without holding all of them at once beside their whole."""
    whole, filled = np.empty(0, np.float32), 0
    for block in blocks:
        end = filled + len(block)
        if end > len(whole):
            whole.resize(max(end, len(whole) * 5 // 4), refcheck=False)
        whole[filled:end] = block
        filled = end
    return whole[:filled]


class _Moments:
    """Sums and products of the channels of all blocks, from which their correlations follow."""

    def __init__(self) -> None:
        self._count, self._sum, self._products = 0, np.zeros(1), np.zeros((1, 1))

    def seen(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hands the blocks on, having summed them."""
        for block in blocks:
            if block.shape[1] > 1:
                exact = block.astype(np.float64)
                self._count += len(exact)
                with np.errstate(invalid="ignore", over="ignore"):
                    self._sum = self._sum + exact.sum(axis=0)
                    self._products = self._products + exact.T @ exact
            yield block

    def likeness(self) -> Likeness:
        mean = self._sum / max(1, self._count)
        with np.errstate(invalid="ignore", over="ignore"):
            products = self._products - self._count * np.outer(mean, mean)
        energy = np.diag(products)
        if not np.isfinite(products).all():  # For check_waveform to report.
            return Likeness(0, 1.0)
        loudest = int((energy >= _AS_LOUD * energy.max()).argmax())
        others = energy > _QUIET * energy[loudest]
        if not energy[loudest] > 0 or others.sum() < 2:
            return Likeness(loudest, 1.0)
        alike = products[loudest, others] / np.sqrt(energy[loudest] * energy[others])
        return Likeness(loudest, float(alike.min()))
