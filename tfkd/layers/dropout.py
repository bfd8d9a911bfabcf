"""Dropout with independent random numbers for each replica."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.layers.replicas import ReplicaSeeds


class Dropout(keras.layers.Layer):
    """`keras.layers.Dropout` whose replicas drop different values."""

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        if rate > 0:
            # The seed is a variable, so that a resumed training continues the sequence.
            self.seed_generator = ReplicaSeeds()
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Sets a share `rate` of the inputs to zero in training, and scales up the others."""
        if not training or self.rate == 0:
            return inputs
        return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}
