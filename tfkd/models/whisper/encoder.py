"""Whisper's encoder: two convolutions and self-attention layers over windows of 30 s."""

from __future__ import annotations

import tensorflow as tf

from tfkd.models.whisper.layers import (
    FeedForward,
    Float32Layer,
    Projection,
    join_heads,
    layer_norm,
    scaled,
    split_heads,
)
from tfkd.models.whisper.sizes import WhisperSizes

_KERNEL_FRAMES = 3


class Convolution(Float32Layer):
    """A convolution of three frames with exact GELU; one frame of padding at either end."""

    def __init__(self, units: int, stride: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.stride = units, stride

    def build(self, input_units: int) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(_KERNEL_FRAMES, input_units, self.units), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [B, T, F] to [B, T / stride, units]."""
        padded = tf.pad(inputs, [[0, 0], [1, 1], [0, 0]])
        outputs = tf.nn.conv1d(padded, self.kernel, self.stride, "VALID") + self.bias
        return tf.nn.gelu(outputs, approximate=False)


class EncoderLayer(Float32Layer):
    """Self-attention of all frames with all, then a feed-forward layer; norms come first."""

    def __init__(self, sizes: WhisperSizes, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes
        self.norm = layer_norm("norm")
        self.query_key_value = Projection(3 * sizes.units, name="query_key_value")
        self.output_projection = Projection(sizes.units, name="output")
        self.feed_forward = FeedForward(sizes.units, sizes.encoder_inner_units, name="feed_forward")

    def build(self) -> None:
        self.norm.build((None, self.sizes.units))
        self.query_key_value.build(self.sizes.units)
        self.output_projection.build(self.sizes.units)
        self.feed_forward.build()
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [B, T, F] to the same shape."""
        projected = tf.split(self.query_key_value(self.norm(inputs)), 3, -1)
        heads = [split_heads(each, self.sizes.encoder_heads) for each in projected]
        queries, keys, values = heads
        alignment = tf.nn.softmax(tf.matmul(scaled(queries), keys, transpose_b=True))
        attended = inputs + self.output_projection(join_heads(tf.matmul(alignment, values)))
        return self.feed_forward(attended)


class WhisperEncoder(Float32Layer):
    """Maps features of 30 s to 1500 encodings."""

    def __init__(self, sizes: WhisperSizes, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes
        self.first = Convolution(sizes.units, 1, name="first")
        self.second = Convolution(sizes.units, 2, name="second")
        self.layers = [
            EncoderLayer(sizes, name=f"layer_{number}") for number in range(sizes.encoder_layers)
        ]
        self.norm = layer_norm("norm")

    def build(self) -> None:
        self.first.build(self.sizes.num_mels)
        self.second.build(self.sizes.units)
        self.positions = self.add_weight(
            name="positions",
            shape=(self.sizes.num_encodings, self.sizes.units),
            initializer="zeros",
        )
        for layer in self.layers:
            layer.build()
        self.norm.build((None, self.sizes.units))
        self.built = True

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Maps features [B, 3000, M] to encoded [B, 1500, F].

        Windows are encoded one after another, so that the activations of one fit into the
        processor's cache and the alignments of a batch, some gigabytes, are not held at once.
        """
        return tf.map_fn(
            lambda window: self._encode(tf.expand_dims(window, 0))[0],
            features,
            parallel_iterations=1,
        )

    def _encode(self, features: tf.Tensor) -> tf.Tensor:
        encoded = self.second(self.first(features)) + self.positions
        for layer in self.layers:
            encoded = layer(encoded)
        return self.norm(encoded)
