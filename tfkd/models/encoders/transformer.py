"""The Transformer and Conformer encoders."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.config import TransformerEncoderConfig, from_dict
from tfkd.layers.dropout import Dropout
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.recurrent import zero_beyond
from tfkd.layers.static_shape import dimensions
from tfkd.layers.transformer import (
    FeedForward,
    Linear,
    MultiHeadAttention,
    gated,
    layer_norm,
    mask_bias,
    swish,
)
from tfkd.models.encoders.halving import HalvingEncoder


@keras.saving.register_keras_serializable("tfkd")
class ConvolutionModule(keras.layers.Layer):
    """Gated pointwise convolution, depthwise convolution over time, and pointwise convolution.

    References:
      Gulati et al. 2020, arXiv:2005.08100, figure 2; here layer normalisation replaces batch
      normalisation, whose statistics would include padding.
    """

    def __init__(self, units: int, width: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.width = units, width
        self.pointwise = Linear(2 * units, name="pointwise", dtype=self.dtype_policy)
        self.norm = LayerNormalization(name="norm", dtype=self.dtype_policy)
        self.outer = Linear(units, name="outer", dtype=self.dtype_policy)

    def build(self, input_shape=None) -> None:
        """Creates every weight."""
        self.pointwise.build((None, self.units))
        self.kernel = self.add_weight(name="kernel", shape=(self.width, 1, self.units, 1))
        self.norm.build((None, None, self.units))
        self.outer.build((None, self.units))
        self.built = True

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Maps inputs [B, T, units] to the same shape; frames beyond lengths [B] have no effect."""
        values = zero_beyond(gated(self.pointwise.call(inputs)), lengths)
        before = (self.width - 1) // 2
        values = tf.pad(values, [[0, 0], [before, self.width - 1 - before], [0, 0]])
        values = tf.nn.depthwise_conv2d(
            tf.expand_dims(values, 2),
            tf.convert_to_tensor(self.kernel),
            strides=[1, 1, 1, 1],
            padding="VALID",
        )
        values = swish(layer_norm(self.norm, tf.squeeze(values, 2)))
        return self.outer.call(values)

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        return {**super().get_config(), "units": self.units, "width": self.width}


@keras.saving.register_keras_serializable("tfkd")
class EncoderBlock(keras.layers.Layer):
    """A block of self-attention, feed-forward layers and, in a Conformer, convolution.

    Every part has a residual connection and normalises its input. A Conformer has a feed-forward
    layer before attention and another after convolution, each with the weight 0.5; a Transformer
    has one after attention.

    References:
      Gulati et al. 2020, arXiv:2005.08100, eq. 1 (Conformer).
      Xiong et al. 2020, arXiv:2002.04745 (normalisation before each part).
    """

    def __init__(self, config: TransformerEncoderConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = from_dict(TransformerEncoderConfig, config)
        self.config, dtype = config, self.dtype_policy
        self.is_conformer = config.kind == "conformer"
        self.attention = MultiHeadAttention(
            config.units, config.heads, is_rotary=True, name="attention", dtype=dtype
        )
        names = ["attention", "after", "last"] + ["before", "convolution"] * self.is_conformer
        self.norms = {name: LayerNormalization(name=f"norm_{name}", dtype=dtype) for name in names}
        sizes = config.units, config.feed_forward_units
        self.after = FeedForward(*sizes, name="after", dtype=dtype)
        if self.is_conformer:
            self.before = FeedForward(*sizes, name="before", dtype=dtype)
            self.convolution = ConvolutionModule(
                config.units, config.convolution_width, name="convolution", dtype=dtype
            )
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, input_shape=None) -> None:
        """Creates every weight."""
        self.attention.build(self.config.units)
        for norm in self.norms.values():
            norm.build((None, None, self.config.units))
        self.after.build()
        if self.is_conformer:
            self.before.build()
            self.convolution.build()
        self.built = True

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, bias: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Maps inputs [B, T, units] to the same shape.

        Args:
          bias: [B, 1, 1, T], very negative beyond each of lengths [B].
        """

        def added(x: tf.Tensor, part: tf.Tensor, share: float = 1.0) -> tf.Tensor:
            return x + share * self.dropout.call(part, training=training)

        def normed(name: str, x: tf.Tensor) -> tf.Tensor:
            return layer_norm(self.norms[name], x)

        x = inputs
        if self.is_conformer:
            x = added(x, self.before.call(normed("before", x)), 0.5)
        seen = normed("attention", x)
        attended, _ = self.attention.attend(seen, *self.attention.keys_and_values(seen), bias)
        x = added(x, attended)
        if self.is_conformer:
            x = added(x, self.convolution.call(normed("convolution", x), lengths))
        share = 0.5 if self.is_conformer else 1.0
        x = added(x, self.after.call(normed("after", x)), share)
        return normed("last", x)

    def get_config(self) -> dict:
        """Returns the config, from which Keras rebuilds the layer."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}


@keras.saving.register_keras_serializable("tfkd")
class TransformerEncoder(HalvingEncoder):
    """Convolutions that halve time, and blocks of self-attention.

    Queries and keys have rotary position embeddings, which replace the relative encodings of
    Transformer-XL in Gulati et al.

    References:
      Su et al. 2021, "RoFormer", arXiv:2104.09864.
    """

    def __init__(self, config: TransformerEncoderConfig | dict, **kwargs) -> None:
        if isinstance(config, dict):
            config = from_dict(TransformerEncoderConfig, config)
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        self.blocks = [
            EncoderBlock(config, name=f"block_{i}", dtype=dtype) for i in range(config.layers)
        ]
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, input_shape) -> None:
        """Creates every weight for features of shape (None, None, F)."""
        super().build(input_shape)
        for block in self.blocks:
            block.build()
        self.built = True

    def call(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B]."""
        x, lengths = self.halved(features, lengths)
        x = self.dropout.call(x, training=training)
        is_inside = tf.range(dimensions(x)[1]) < tf.expand_dims(lengths, 1)
        bias = tf.expand_dims(tf.expand_dims(mask_bias(is_inside), 1), 1)
        for block in self.blocks:
            x = block.call(x, lengths, bias, training=training)
        return zero_beyond(x, lengths), lengths
