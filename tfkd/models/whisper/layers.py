"""Layers that Whisper's encoder and decoder share."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.matmul import rows_of

_EPSILON = 1e-5


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 whatever Keras' global dtype policy says."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})


class Projection(Float32Layer):
    """A dense layer, with a kernel [F, G] and a bias [G], for inputs of any rank."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_units: int) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(input_units, self.units), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [..., F] to [..., G] by one product of all rows."""
        outputs = tf.matmul(rows_of(inputs), self.kernel) + self.bias
        return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [self.units]], 0))


class FeedForward(Float32Layer):
    """A residual block: layer norm, a wider layer with exact GELU, and a projection back."""

    def __init__(self, units: int, inner_units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.inner_units = units, inner_units
        self.norm = layer_norm("norm")
        self.inner = Projection(inner_units, name="inner")
        self.outer = Projection(units, name="outer")

    def build(self) -> None:
        self.norm.build((None, self.units))
        self.inner.build(self.units)
        self.outer.build(self.inner_units)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [..., F] to the same shape."""
        hidden = tf.nn.gelu(self.inner(self.norm(inputs)), approximate=False)
        return inputs + self.outer(hidden)


def layer_norm(name: str) -> LayerNormalization:
    """Makes a layer norm with Whisper's epsilon."""
    return LayerNormalization(epsilon=_EPSILON, name=name, dtype="float32")


def split_heads(values: tf.Tensor, num_heads: int) -> tf.Tensor:
    """Maps [B, T, F] to [B, num_heads, T, F / num_heads]."""
    batch, steps = tf.shape(values)[0], tf.shape(values)[1]
    units = values.shape[-1] // num_heads
    return tf.transpose(tf.reshape(values, [batch, steps, num_heads, units]), [0, 2, 1, 3])


def join_heads(values: tf.Tensor) -> tf.Tensor:
    """Maps [B, H, T, D] to [B, T, H * D]."""
    batch, heads, steps, units = values.shape
    batch, steps = tf.shape(values)[0], tf.shape(values)[2]
    return tf.reshape(tf.transpose(values, [0, 2, 1, 3]), [batch, steps, heads * units])


def scaled(queries: tf.Tensor) -> tf.Tensor:
    """Divides queries [..., D] by the square root of D (scaled dot-product attention)."""
    return queries * queries.shape[-1] ** -0.5
