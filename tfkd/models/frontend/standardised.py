"""The base class of frontends that cut the waveform into windows and standardise the features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import from_dict
from tfkd.models.frontend.statistics import feature_statistics

_MAX_RELATIVE_SCALE = 4.0


class StandardisedFrontend(keras.layers.Layer):
    """Cuts the waveform into windows and standardises the features of each.

    A subclass sets `num_features` and implements `features`.

    Args:
      config: an instance of `config_class`, with sample_rate_hz, window_ms and hop_ms, or a
        mapping.

    Attributes:
      config_class: the config class of the subclass.
      feature_kinds: number of blocks of features, of equal size, with different ranges, such as
        energies and deltas.
    """

    config_class: ClassVar[type]
    num_features: int
    feature_kinds = 1

    def __init__(self, config, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(self.config_class, config) if isinstance(config, dict) else config
        self.window_samples = round(self.config.sample_rate_hz * self.config.window_ms / 1000)
        self.hop_samples = round(self.config.sample_rate_hz * self.config.hop_ms / 1000)
        # At 22050 Hz, 10 ms are 220.5 samples, of which a hop has 220.
        self.hop_seconds = self.hop_samples / self.config.sample_rate_hz

    def build(self, input_shape=None) -> None:
        """Creates the variables of mean and scale."""
        shape = (self.num_features,)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)
        self.built = True

    def num_frames(self, num_samples: tf.Tensor) -> tf.Tensor:
        """Counts the frames that lie wholly within `num_samples` samples."""
        return tf.maximum(0, (num_samples - self.window_samples) // self.hop_samples + 1)

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Computes features [B, T, F] of waveform [B, N] before they are standardised."""
        raise NotImplementedError

    def call(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps waveform [B, N] float32 in [-1, 1] and num_samples [B] to features.

        Returns:
          features [B, T, F], zero beyond each utterance's end, and num_frames [B] int32.
        """
        num_frames = self.num_frames(num_samples)
        features = self.features(waveform, num_frames)
        standardised = (features - self.mean) * self.scale
        inside = tf.sequence_mask(num_frames, tf.shape(features)[1])
        # Select rather than multiply, because features of padding need not be finite.
        return tf.where(tf.expand_dims(inside, -1), standardised, 0.0), num_frames

    def adapt(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Computes the feature statistics of a training set, with which features are standardised.

        Args:
          batches: waveform [B, N] float32 and num_samples [B] int32, as from `tfkd.batches`; some
            minutes of audio are enough, such as `batches.take(40)`.
        Raises:
          ValueError: if the batches hold no frame.

        >>> frontend = tfkd.models.frontend.log_mel.LogMel({})
        >>> noise = np.random.default_rng(0).normal(size=(2, 16000)).astype("float32")
        >>> frontend.build()
        >>> frontend.adapt([{"waveform": noise, "num_samples": np.array([16000, 8000])}])
        >>> bool((frontend.mean.numpy() != 0).all())
        True
        """
        self.set_statistics(*feature_statistics(self, batches))

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Sets the mean [F] and standard deviation [F] with which features are standardised.

        A band that is always silent, as above 4 kHz in telephone speech, has almost no deviation;
        dividing by it would amplify any faint sound there. So the scale of a band is limited to
        `_MAX_RELATIVE_SCALE` times the smallest scale of its kind.
        """
        by_kind = std.reshape([self.feature_kinds, -1])
        least = by_kind.max(1, keepdims=True) / _MAX_RELATIVE_SCALE
        self.mean.assign(mean)
        self.scale.assign(1.0 / np.maximum(np.maximum(by_kind, least), 1e-6).reshape(-1))

    def get_config(self) -> dict:
        """Returns the config, from which Keras rebuilds the layer."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
