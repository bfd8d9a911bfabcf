"""Perturbs speed: draws a factor for each utterance and resamples its waveform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def draw_speed(utterance_ids: Sequence[str], factors: Sequence[float], seed: int) -> np.ndarray:
    """Draws the number [B] of one of `factors` for each id, by a hash of id and seed."""
    keys = tf.strings.join([tf.constant(utterance_ids, tf.string), str(seed)], separator="\n")
    return tf.strings.to_hash_bucket_strong(keys, len(factors), key=[0, 0]).numpy()


class SpeedChange:
    """Plays waveforms `factor` times as fast, which also changes their pitch.

    It interpolates linearly: the error is far below the noise of real recordings, and a
    band-limited resampler would take more time than the training step. The positions of the samples
    are computed once, for the longest waveform, because they are most of the work.

    Args:
      factor: 1.1 makes speech shorter by a tenth, and higher.
      max_samples: length of the longest waveform.

    References:
      Ko, Peddinti, Povey and Khudanpur 2015, "Audio augmentation for speech recognition".

    >>> from tfkd.data.augmentation import SpeedChange
    >>> SpeedChange(2.0, 6)(np.arange(6, dtype=np.float32))
    array([0., 2., 4.], dtype=float32)
    """

    def __init__(self, factor: float, max_samples: int) -> None:
        self.factor = factor
        position = np.arange(self.length(max_samples)) * factor
        self._left = position.astype(np.intp)
        self._share = (position - self._left).astype(np.float32)

    def length(self, num_samples: int) -> int:
        """Computes the new length of a waveform of `num_samples` samples."""
        return int(num_samples / self.factor)

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Maps waveform [N] float32 to [length(N)] float32."""
        if self.factor == 1:
            return waveform
        length = self.length(waveform.size)
        left = self._left[:length]
        # Rounding may give an index just after the last sample, so indices are clipped.
        changed = waveform.take(left, mode="clip")
        # Compute in place, because memory access takes most of the time.
        step = np.append(waveform[1:], waveform[-1]).take(left, mode="clip")
        step -= changed
        step *= self._share[:length]
        changed += step
        return changed
