"""Waveform to normalised log-mel features, inside the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import FrontendConfig, from_dict
from tfkd.models.frontend.statistics import feature_statistics

# Energies below this (of a waveform in [-1, 1]) are silence; the floor keeps the log finite.
_ENERGY_FLOOR = 1e-6
_MAX_RELATIVE_SCALE = 4.0
# TFLite's dynamic-range quantiser leaves constants below this size alone. Quantised mel filters
# give errors larger than the features (see docs/decisions/0003-frontend.md).
_MAX_UNQUANTISED_ELEMENTS = 1024


@keras.saving.register_keras_serializable("tfkd")
class LogMel(keras.layers.Layer):
    """Log-mel filterbank with optional deltas, normalised by the training set's statistics.

    Args:
      config: sample rate, window, hop and filters.
    """

    def __init__(self, config: FrontendConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(FrontendConfig, config) if isinstance(config, dict) else config
        self.window_samples = round(self.config.sample_rate_hz * self.config.window_ms / 1000)
        self.hop_samples = round(self.config.sample_rate_hz * self.config.hop_ms / 1000)
        self.hop_seconds = self.config.hop_ms / 1000
        self.fft_samples = 2 ** int(np.ceil(np.log2(self.window_samples)))
        self.num_features = self.config.num_mels * (1 + self.config.delta_orders)
        self._bands = _mel_bands(self.config, self.fft_samples)

    def build(self, input_shape=None) -> None:
        shape = (self.num_features,)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)
        self.built = True

    def num_frames(self, num_samples: tf.Tensor) -> tf.Tensor:
        """Frames that lie wholly inside `num_samples` samples."""
        return tf.maximum(0, (num_samples - self.window_samples) // self.hop_samples + 1)

    def call(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps waveform [B, N] float32 in [-1, 1] and num_samples [B] to features.

        Returns:
          log_mel [B, T, M], zero beyond each utterance's end, and num_frames [B] int32.
        """
        num_frames = self.num_frames(num_samples)
        features = self.features(waveform, num_frames)
        normalised = (features - self.mean) * self.scale
        inside = tf.sequence_mask(num_frames, tf.shape(features)[1])
        # Not by a product: what lies beyond need not be finite.
        return tf.where(tf.expand_dims(inside, -1), normalised, 0.0), num_frames

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Log-mel and deltas before normalisation, [B, T, M]."""
        # At least one frame, whatever the length. Paddings are constants throughout the model:
        # TFLite loses the shape behind a computed one.
        waveform = tf.pad(waveform, [[0, 0], [0, self.window_samples]])
        spectrum = tf.signal.stft(waveform, self.window_samples, self.hop_samples, self.fft_samples)
        energy = tf.square(tf.abs(spectrum))
        mels = [tf.matmul(energy[..., low:high], weights) for low, high, weights in self._bands]
        features = [tf.math.log(tf.concat(mels, -1) + _ENERGY_FLOOR)]
        for _ in range(self.config.delta_orders):
            features.append(_deltas(features[-1], num_frames))
        return tf.concat(features, -1)

    def adapt(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Measures the statistics of a training set, and normalises by them from now on.

        Args:
          batches: waveform [B, N] float32 and num_samples [B], as `tfkd.batches` gives them; some
            minutes of audio are enough, such as `batches.take(40)`.

        >>> frontend = tfkd.models.frontend.log_mel.LogMel({})
        >>> noise = np.random.default_rng(0).normal(size=(2, 16000)).astype("float32")
        >>> frontend.build()
        >>> frontend.adapt([{"waveform": noise, "num_samples": np.array([16000, 8000])}])
        >>> bool((frontend.mean.numpy() != 0).all())
        True
        """
        self.set_statistics(*feature_statistics(self, batches))

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Normalises by statistics [M] that were measured before.

        A band that is always silent, as above 4 kHz in telephone speech, has next to no deviation;
        dividing by it would blow up the first faint sound there. So no band is scaled by more than
        `_MAX_RELATIVE_SCALE` times the least scaled one of its kind.
        """
        by_order = std.reshape([1 + self.config.delta_orders, self.config.num_mels])
        least = by_order.max(1, keepdims=True) / _MAX_RELATIVE_SCALE
        self.mean.assign(mean)
        self.scale.assign(1.0 / np.maximum(np.maximum(by_order, least), 1e-6).reshape(-1))

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}


def _mel_bands(config: FrontendConfig, fft_samples: int) -> list[tuple[int, int, np.ndarray]]:
    """Cuts the mel matrix into groups of neighbouring filters with the bins that they cover.

    Most of the matrix is zero: the groups cost a tenth of its multiplications, and each is too
    small for the quantiser.
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
            if wider[2].size >= _MAX_UNQUANTISED_ELEMENTS:
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
    """Regression slope over two frames on either side; the utterance's edge frames repeat."""
    last = tf.expand_dims(tf.maximum(num_frames - 1, 0), -1)
    frames = tf.expand_dims(tf.range(tf.shape(features)[1]), 0)

    def shifted(offset: int) -> tf.Tensor:
        # Not tf.clip_by_value, which refuses to broadcast over the batch.
        index = tf.minimum(tf.maximum(frames + offset, 0), last)
        return tf.gather(features, index, batch_dims=1)

    return tf.add_n([(shifted(n) - shifted(-n)) * (n / 10.0) for n in (1, 2)])
