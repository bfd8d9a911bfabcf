"""Computes standardised log-mel features from the waveform, inside the model."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import FrontendConfig
from tfkd.models.frontend.standardised import StandardisedFrontend

# The energy of silence for a waveform in [-1, 1]; this floor keeps the logarithm finite.
_ENERGY_FLOOR = 1e-6
# TFLite's dynamic-range quantiser skips smaller constants. Quantised mel filters would give errors
# larger than the features (docs/decisions/0003-frontend.md).
MAX_UNQUANTISED_ELEMENTS = 1024


@keras.saving.register_keras_serializable("tfkd")
class LogMel(StandardisedFrontend):
    """Log-mel filterbank with optional deltas, standardised by the training set's statistics.

    Args:
      config: sample rate, window, hop and filters.
    """

    config_class = FrontendConfig

    def __init__(self, config: FrontendConfig | dict, **kwargs) -> None:
        super().__init__(config, **kwargs)
        self.fft_samples = 2 ** int(np.ceil(np.log2(self.window_samples)))
        self.feature_kinds = 1 + self.config.delta_orders
        self.num_features = self.config.num_mels * self.feature_kinds
        self._bands = _mel_bands(self.config, self.fft_samples)

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Computes log-mel features and deltas [B, T, M] before they are standardised."""
        # Pad by a window, so that the shortest waveform has a frame. All paddings of the model are
        # constants, because TFLite loses the shape after a computed one.
        waveform = tf.pad(waveform, [[0, 0], [0, self.window_samples]])
        spectrum = tf.signal.stft(waveform, self.window_samples, self.hop_samples, self.fft_samples)
        energy = tf.square(tf.abs(spectrum))
        mels = [tf.matmul(energy[..., low:high], weights) for low, high, weights in self._bands]
        features = [tf.math.log(tf.concat(mels, -1) + _ENERGY_FLOOR)]
        for _ in range(self.config.delta_orders):
            features.append(_deltas(features[-1], num_frames))
        return tf.concat(features, -1)


def _mel_bands(config: FrontendConfig, fft_samples: int) -> list[tuple[int, int, np.ndarray]]:
    """Splits the mel matrix into groups of neighbouring filters, each with its range of bins.

    Most of the matrix is zero, so the groups need a tenth of its multiplications. Each is small
    enough that the quantiser skips it.
    """
    with tf.init_scope():
        matrix = tf.signal.linear_to_mel_weight_matrix(
            config.num_mels, fft_samples // 2 + 1, config.sample_rate_hz, config.min_hz,
            config.max_hz,
        ).numpy()  # fmt: skip
    bands: list[tuple[int, int, np.ndarray]] = []
    start = 0
    while start < config.num_mels:
        stop = start + 1
        band = _band(matrix, start, stop)
        while stop < config.num_mels:
            wider = _band(matrix, start, stop + 1)
            if wider[2].size >= MAX_UNQUANTISED_ELEMENTS:
                break
            band, stop = wider, stop + 1
        bands.append(band)
        start = stop
    return bands


def _band(matrix: np.ndarray, start: int, stop: int) -> tuple[int, int, np.ndarray]:
    used = np.flatnonzero(matrix[:, start:stop].any(1))
    low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
    return low, high, matrix[low:high, start:stop]


def _deltas(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    """Computes the regression slope over two frames on either side; edge frames are repeated."""
    last = tf.expand_dims(tf.maximum(num_frames - 1, 0), -1)
    frames = tf.expand_dims(tf.range(tf.shape(features)[1]), 0)

    def shifted(offset: int) -> tf.Tensor:
        # tf.clip_by_value does not broadcast over the batch.
        index = tf.minimum(tf.maximum(frames + offset, 0), last)
        return tf.gather(features, index, batch_dims=1)

    return tf.add_n([(shifted(n) - shifted(-n)) * (n / 10.0) for n in (1, 2)])
