"""Computes Whisper's log-mel features: windows of 30 s at 16 kHz, padded with silence."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

SAMPLE_RATE_HZ = 16000
WINDOW_SECONDS = 30
WINDOW_SAMPLES = SAMPLE_RATE_HZ * WINDOW_SECONDS
NUM_FRAMES = 3000

_FRAME_SAMPLES, _HOP_SAMPLES = 400, 160
_ENERGY_FLOOR = 1e-10
# Energies more than this many decades below the largest of a window count as silence.
_DYNAMIC_RANGE = 8.0


@keras.saving.register_keras_serializable("tfkd")
class WhisperMel(keras.layers.Layer):
    """Maps waveforms to the features of Radford et al. 2022.

    Shorter waveforms are padded with silence to 30 s, as in Whisper's training; with fewer frames
    it invents words.

    Args:
      num_mels: 80, or 128 for the large models of 2023 and later.

    References:
      Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
      arXiv:2212.04356, section 2.2.
    """

    def __init__(self, num_mels: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_mels = num_mels
        self._filters = mel_filters(num_mels)

    def call(self, waveform: tf.Tensor) -> tf.Tensor:
        """Maps waveform [B, N] float32 in [-1, 1], N at most 480000, to [B, 3000, num_mels].

        Samples beyond the end of an utterance must be zero, as in padded batches.
        """
        missing = WINDOW_SAMPLES - tf.shape(waveform)[1]
        window = tf.pad(waveform, [[0, 0], [0, missing]])
        edge = _FRAME_SAMPLES // 2
        window = tf.pad(window, [[0, 0], [edge, edge]], mode="REFLECT")
        window = tf.ensure_shape(window, [None, WINDOW_SAMPLES + 2 * edge])
        spectrum = tf.signal.stft(window, _FRAME_SAMPLES, _HOP_SAMPLES, _FRAME_SAMPLES)
        # The last frame begins at the end of the window; Whisper drops it.
        energy = tf.square(tf.abs(spectrum[:, :NUM_FRAMES]))
        decades = tf.math.log(tf.maximum(energy @ self._filters, _ENERGY_FLOOR)) / np.log(10.0)
        loudest = tf.reduce_max(decades, [1, 2], keepdims=True)
        return (tf.maximum(decades, loudest - _DYNAMIC_RANGE) + 4.0) / 4.0

    def get_config(self) -> dict:
        return {**super().get_config(), "num_mels": self.num_mels}


def mel_filters(num_mels: int) -> np.ndarray:
    """Makes triangular filters [201, num_mels] over 0 to 8 kHz, each of unit area.

    The scale is linear below 1 kHz and logarithmic above.

    References:
      Slaney 1998, "Auditory toolbox", Interval Research technical report 1998-010.
    """
    bins_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, _FRAME_SAMPLES // 2 + 1)
    highest = _mel_of_hz(SAMPLE_RATE_HZ / 2)
    edges_hz = np.array([_hz_of_mel(mel) for mel in np.linspace(0, highest, num_mels + 2)])
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - low) / (centre - low)
    falling = (high - bins_hz[:, None]) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (high - low)).astype(np.float32)


_LINEAR_BELOW_HZ = 1000.0
_HZ_A_MEL = 200.0 / 3.0
_LOG_HZ_A_MEL = np.log(6.4) / 27.0


def _mel_of_hz(hz: float) -> float:
    if hz < _LINEAR_BELOW_HZ:
        return hz / _HZ_A_MEL
    return _LINEAR_BELOW_HZ / _HZ_A_MEL + np.log(hz / _LINEAR_BELOW_HZ) / _LOG_HZ_A_MEL


def _hz_of_mel(mel: float) -> float:
    linear = _LINEAR_BELOW_HZ / _HZ_A_MEL
    if mel < linear:
        return mel * _HZ_A_MEL
    return _LINEAR_BELOW_HZ * np.exp(_LOG_HZ_A_MEL * (mel - linear))
