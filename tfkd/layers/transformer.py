"""The parts of Transformers: projections, multi-head attention, feed-forward layers.

These layers use each other's `call`, not `__call__`, which would cast inputs to the precision of
training: a search always computes in float32.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfkd.layers.layer_norm import LayerNormalization, normalise
from tfkd.layers.matmul import project
from tfkd.layers.static_shape import dimensions

_MASKED = -1e9
# The longest wavelength of position encodings is this many times 2 pi.
_LONGEST_WAVE = 10_000.0


@keras.saving.register_keras_serializable("tfkd")
class Linear(keras.layers.Layer):
    """Maps inputs [..., F] to [..., units] by one matrix product.

    `keras.layers.Dense` computes a product for each leading index, and sums as many gradients.
    """

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape) -> None:
        """Creates kernel and bias for inputs of shape (..., F)."""
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiplies inputs [..., F] by the kernel and adds the bias."""
        return project(inputs, tf.convert_to_tensor(self.kernel)) + self.bias

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        return {**super().get_config(), "units": self.units}


def layer_norm(norm: LayerNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """Applies `norm` to inputs [..., F]; the result has the dtype of the inputs."""
    outputs = normalise(tf.cast(inputs, tf.float32), norm.epsilon)
    outputs = outputs * tf.cast(norm.gamma, tf.float32) + tf.cast(norm.beta, tf.float32)
    return tf.cast(outputs, inputs.dtype)


def sinusoids(positions: tf.Tensor, units: int) -> tf.Tensor:
    """Encodes positions [...] as [..., units] float32.

    References:
      Vaswani et al. 2017, arXiv:1706.03762, section 3.5, with all sines before all cosines.
    """
    angles = _angles(positions, units)
    return tf.concat([tf.sin(angles), tf.cos(angles)], -1)


def _angles(positions: tf.Tensor, units: int) -> tf.Tensor:
    """Angles [..., units / 2] whose wavelengths grow geometrically."""
    rates = _LONGEST_WAVE ** (-np.arange(units // 2) / (units // 2))
    return tf.expand_dims(tf.cast(positions, tf.float32), -1) * rates.astype(np.float32)


def rotated(values: tf.Tensor) -> tf.Tensor:
    """Rotates queries or keys [B, H, T, d] by angles that grow with their position.

    The product of a query and a key then depends on the distance between their positions alone.

    References:
      Su et al. 2021, arXiv:2104.09864, eq. 34.
    """
    angles = _angles(tf.range(dimensions(values)[2]), values.shape[-1])
    cos, sin = tf.cast(tf.cos(angles), values.dtype), tf.cast(tf.sin(angles), values.dtype)
    first, second = tf.split(values, 2, -1)
    return tf.concat([first * cos - second * sin, first * sin + second * cos], -1)


def mask_bias(is_seen: tf.Tensor) -> tf.Tensor:
    """Makes the float32 term that masks energies: zero where `is_seen`, else very negative."""
    return tf.where(is_seen, 0.0, _MASKED)


@keras.saving.register_keras_serializable("tfkd")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head scaled dot-product attention, in two steps, so that keys and values can be cached.

    Args:
      units: size of the outputs; it must be divisible by `heads`, and a head's size must be even.
      is_rotary: whether queries and keys are rotated by their positions.
    References:
      Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, units: int, heads: int, is_rotary: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.heads, self.is_rotary = units, heads, is_rotary
        dtype = self.dtype_policy
        self.query, self.key, self.value, self.output_layer = (
            Linear(units, name=name, dtype=dtype) for name in ("query", "key", "value", "output")
        )

    def build(self, memory_units: int) -> None:
        """Creates every weight for a memory [B, S, memory_units]."""
        for layer in (self.key, self.value):
            layer.build((None, memory_units))
        for layer in (self.query, self.output_layer):
            layer.build((None, self.units))
        self.built = True

    def keys_and_values(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes keys and values [B, H, S, d] of memory [B, S, F]."""
        keys = self._by_head(self.key.call(memory))
        return rotated(keys) if self.is_rotary else keys, self._by_head(self.value.call(memory))

    def attend(
        self, inputs: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attends from inputs [B, T, units] to keys and values [B, H, S, d].

        Args:
          bias: float32 that broadcasts to [B, H, T, S]; see `mask_bias`.
        Returns:
          Outputs [B, T, units] and the weights [B, H, T, S] float32.
        """
        queries = self._by_head(self.query.call(inputs))
        if self.is_rotary:
            queries = rotated(queries)
        queries *= tf.cast((self.units // self.heads) ** -0.5, queries.dtype)
        # float16 could not hold the mask.
        energies = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
        weights = tf.nn.softmax(energies + bias)
        context = tf.matmul(tf.cast(weights, values.dtype), values)
        batch, _, steps, _ = dimensions(context)
        context = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [batch, steps, self.units])
        return self.output_layer.call(context), weights

    def _by_head(self, values: tf.Tensor) -> tf.Tensor:
        """values [B, T, units] as [B, H, T, d]."""
        batch, steps, _ = dimensions(values)
        values = tf.reshape(values, [batch, steps, self.heads, self.units // self.heads])
        return tf.transpose(values, [0, 2, 1, 3])

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        own = {"units": self.units, "heads": self.heads, "is_rotary": self.is_rotary}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tfkd")
class FeedForward(keras.layers.Layer):
    """Two projections with a swish between them, applied to each position separately.

    References:
      Vaswani et al. 2017, arXiv:1706.03762, eq. 2; swish as in Gulati et al. 2020,
      arXiv:2005.08100, section 2.3.
    """

    def __init__(self, units: int, inner_units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.inner_units = units, inner_units
        self.inner = Linear(inner_units, name="inner", dtype=self.dtype_policy)
        self.outer = Linear(units, name="outer", dtype=self.dtype_policy)

    def build(self, input_shape=None) -> None:
        """Creates every weight."""
        self.inner.build((None, self.units))
        self.outer.build((None, self.inner_units))
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps inputs [..., units] to the same shape."""
        return self.outer.call(swish(self.inner.call(inputs)))

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        return {**super().get_config(), "units": self.units, "inner_units": self.inner_units}


def swish(values: tf.Tensor) -> tf.Tensor:
    """Computes values * sigmoid(values) (Ramachandran et al. 2017, arXiv:1710.05941)."""
    return values * tf.sigmoid(values)


def gated(values: tf.Tensor) -> tf.Tensor:
    """Applies the gated linear unit to values [..., 2 F]; returns [..., F].

    References:
      Dauphin et al. 2017, arXiv:1612.08083, eq. 1.
    """
    linear, gate = tf.split(values, 2, -1)
    return linear * tf.sigmoid(gate)
