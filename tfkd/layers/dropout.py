"""Dropout whose replicas draw independently, each for its own rows of a batch."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.layers.replicas import ReplicaSeeds


class Dropout(keras.layers.Layer):
    """`keras.layers.Dropout` whose replicas drop other values."""

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        if rate > 0:
            # A variable, so that a training that resumes from a checkpoint draws what follows.
            self.seed_generator = ReplicaSeeds()
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Zeroes a share `rate` of the inputs while training, and scales the rest up for it."""
        if not training or self.rate == 0:
            return inputs
        return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}
