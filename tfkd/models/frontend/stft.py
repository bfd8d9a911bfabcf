"""Computes magnitudes of the short-time Fourier transform, inside the model."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import StftConfig
from tfkd.models.frontend.standardised import StandardisedFrontend

# This floor keeps the logarithm of silence finite; magnitudes of speech are far above it.
_MAGNITUDE_FLOOR = 1e-3


@keras.saving.register_keras_serializable("tfkd")
class Stft(StandardisedFrontend):
    """Linear magnitude spectrogram with a Hann window, or its logarithm, standardised.

    The transform is as long as the window: 161 bins for 20 ms at 16 kHz.

    References:
      Mun'im et al. 2019, arXiv:1811.04531, section 4.
    """

    config_class = StftConfig

    def __init__(self, config: StftConfig | dict, **kwargs) -> None:
        super().__init__(config, **kwargs)
        self.num_features = self.window_samples // 2 + 1
        # tf.signal's window is symmetric where its length is odd; this one is periodic for any.
        self._hann = np.hanning(self.window_samples + 1)[:-1].astype(np.float32)

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Computes the magnitudes [B, T, F] of waveform [B, N], or their logarithms."""
        # Pad by a window, so that the shortest waveform has a frame. The padding is a constant,
        # because TFLite loses the shape after a computed one.
        waveform = tf.pad(waveform, [[0, 0], [0, self.window_samples]])
        windows = tf.signal.frame(waveform, self.window_samples, self.hop_samples)
        magnitudes = _magnitudes(windows * self._hann, self.window_samples)
        return tf.math.log(magnitudes + _MAGNITUDE_FLOOR) if self.config.log else magnitudes


def _magnitudes(windows: tf.Tensor, length: int) -> tf.Tensor:
    """Computes the magnitudes [B, T, length // 2 + 1] of the Fourier transform of [B, T, length].

    TFLite's transform supports powers of two only. With length = 2^a m, m odd, the m sequences of
    every m-th sample are transformed separately and summed with twiddle factors (decimation in
    time). TFLite's quantiser leaves these factors alone, since they are no weights of a product of
    matrices; quantised, their errors would exceed the values of quiet bins.
    """
    odd = length // (length & -length)
    if odd == 1:
        return tf.abs(tf.signal.rfft(windows))
    short, bins = length // odd, np.arange(length // 2 + 1)
    batch, frames = tf.shape(windows)[0], tf.shape(windows)[1]
    decimated = tf.reshape(windows, tf.stack([batch, frames, short, odd]))
    sequences = tf.transpose(decimated, [0, 1, 3, 2])
    if short > 1:
        spectra = tf.signal.rfft(sequences)
        real, imaginary = tf.math.real(spectra), tf.math.imag(spectra)
    else:  # TFLite gives the spectrum of a single sample, which is the sample, an imaginary part.
        real, imaginary = sequences, tf.zeros_like(sequences)
    # A short spectrum repeats; its second half is the conjugate of the first.
    place = bins % short
    is_mirrored = place > short // 2
    place = np.where(is_mirrored, short - place, place)
    sign = np.where(is_mirrored, -1.0, 1.0).astype(np.float32)
    real = tf.gather(real, place, axis=-1)
    imaginary = tf.gather(imaginary, place, axis=-1) * sign
    angle = -2.0 * np.pi * np.arange(odd)[:, None] * bins / length
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    real, imaginary = (
        tf.reduce_sum(real * cos - imaginary * sin, -2),
        tf.reduce_sum(real * sin + imaginary * cos, -2),
    )
    return tf.sqrt(tf.square(real) + tf.square(imaginary))
