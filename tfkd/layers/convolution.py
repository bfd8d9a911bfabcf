"""Gated convolutions over time, whole or step by step."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.layers.matmul import project
from tfkd.layers.static_shape import dimensions
from tfkd.layers.transformer import gated


@keras.saving.register_keras_serializable("tfkd")
class GatedConvolution(keras.layers.Layer):
    """A convolution over time whose outputs pass a gated linear unit.

    Args:
      units: size of inputs and outputs.
      width: number of inputs that an output depends on.
      is_causal: whether these are the last ones, or those on both sides.
    References:
      Dauphin et al. 2017, arXiv:1612.08083, eq. 1; Gehring et al. 2017, arXiv:1705.03122,
      section 3.2.
    """

    def __init__(self, units: int, width: int, is_causal: bool, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.width, self.is_causal = units, width, is_causal

    def build(self, input_shape=None) -> None:
        """Creates kernel and bias."""
        self.kernel = self.add_weight(
            name="kernel", shape=(self.width * self.units, 2 * self.units)
        )
        self.bias = self.add_weight(name="bias", shape=(2 * self.units,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps inputs [B, T, units] to the same shape, padding with zeros."""
        before = self.width - 1 if self.is_causal else (self.width - 1) // 2
        padded = tf.pad(inputs, [[0, 0], [before, self.width - 1 - before], [0, 0]])
        steps = dimensions(inputs)[1]
        windows = tf.concat([padded[:, n : n + steps] for n in range(self.width)], -1)
        return self.of_windows(windows)

    def of_windows(self, windows: tf.Tensor) -> tf.Tensor:
        """Maps windows [..., width * units], the earliest input first, to outputs [..., units]."""
        return gated(project(windows, tf.convert_to_tensor(self.kernel)) + self.bias)

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        own = {"units": self.units, "width": self.width, "is_causal": self.is_causal}
        return {**super().get_config(), **own}
