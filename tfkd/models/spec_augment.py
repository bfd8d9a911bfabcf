"""SpecAugment: random masks in frequency and time while training."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.config import SpecAugmentConfig, from_dict
from tfkd.layers.replicas import ReplicaSeeds


@keras.saving.register_keras_serializable("tfkd")
class SpecAugment(keras.layers.Layer):
    """Sets random bands of frequency and spans of time to zero in training.

    Features are standardised, so zero is the mean. Time warping is left out; Park et al. found that
    it matters least.

    References:
      Park et al. 2019, "SpecAugment", arXiv:1904.08779.
    """

    def __init__(self, config: SpecAugmentConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(SpecAugmentConfig, config) if isinstance(config, dict) else config
        # The seed is a variable, so that a training resumed from a checkpoint continues the
        # sequence.
        self.seed_generator = ReplicaSeeds()
        self.built = True

    def call(self, log_mel: tf.Tensor, num_frames: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Masks log_mel [B, T, M] in training; returns it unchanged otherwise."""
        if not training:
            return log_mel
        batch, frames = tf.shape(log_mel)[0], tf.shape(log_mel)[1]
        bins = tf.fill([batch], log_mel.shape[-1])
        widest_time = tf.cast(num_frames, tf.float32) * self.config.max_time_share
        widest_band = tf.fill([batch], float(self.config.max_frequency_width))
        keep_time = self._mask(num_frames, frames, widest_time, self.config.time_masks)
        keep_bins = self._mask(bins, log_mel.shape[-1], widest_band, self.config.frequency_masks)
        return log_mel * tf.expand_dims(keep_time, 2) * tf.expand_dims(keep_bins, 1)

    def _mask(
        self, lengths: tf.Tensor, size: tf.Tensor | int, widest: tf.Tensor, count: int
    ) -> tf.Tensor:
        """Makes a mask [B, size] that is 0 on `count` random spans of at most `widest`."""
        shape = (tf.shape(lengths)[0], count, 1)
        width = self._uniform(shape) * widest[:, None, None]
        start = self._uniform(shape) * (tf.cast(lengths, tf.float32)[:, None, None] - width)
        position = tf.cast(tf.range(size), tf.float32)[None, None, :]
        masked = (position >= tf.floor(start)) & (position < tf.floor(start + width))
        return 1.0 - tf.cast(tf.reduce_any(masked, 1), tf.float32)

    def _uniform(self, shape: tuple) -> tf.Tensor:
        return keras.random.uniform(shape, seed=self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
