"""Convolutions that halve time, and the base class of encoders that begin with them."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.config import ConvolutionalEncoderConfig, TransformerEncoderConfig
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.recurrent import zero_beyond
from tfkd.layers.transformer import Linear


@keras.saving.register_keras_serializable("tfkd")
class HalvingConv(keras.layers.Layer):
    """Convolution over time with stride 2, layer normalisation and ReLU.

    It pads one frame on the left, so that the result does not depend on the padding of the batch.
    """

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.conv = keras.layers.Conv1D(units, 3, strides=2, dtype=self.dtype_policy)
        self.norm = LayerNormalization(dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        self.conv.build(input_shape)
        self.norm.build((None, None, self.units))
        self.built = True

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps inputs [B, T, F] and lengths [B] to [B, ceil(T/2), units] and lengths."""
        # Output t reads inputs 2t-1, 2t, 2t+1.
        padded = tf.pad(inputs, [[0, 0], [1, 2], [0, 0]])
        outputs = tf.nn.relu(self.norm(self.conv(padded)))
        lengths = (lengths + 1) // 2
        outputs = outputs[:, : (tf.shape(inputs)[1] + 1) // 2]
        return zero_beyond(outputs, lengths), lengths

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


class HalvingEncoder(keras.layers.Layer):
    """An encoder that begins with halving convolutions and a projection to its units.

    A subclass adds what follows, and `call` (see `tfkd.models.interface`).
    """

    def __init__(
        self, config: ConvolutionalEncoderConfig | TransformerEncoderConfig, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.time_reduction, self.output_units = config.time_reduction, config.units
        self.convs = [
            HalvingConv(config.conv_units, name=f"conv_{i}", dtype=self.dtype_policy)
            for i in range(config.time_reduction.bit_length() - 1)
        ]
        self.inputs_layer = Linear(config.units, name="inputs", dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """Creates the weights of the beginning for features of shape (None, None, F)."""
        width = input_shape[-1]
        for conv in self.convs:
            conv.build((None, None, width))
            width = self.config.conv_units
        self.inputs_layer.build((None, width))
        self.built = True

    def halved(self, features: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to [B, S, units] and their lengths."""
        for conv in self.convs:
            features, lengths = conv(features, lengths)
        return self.inputs_layer.call(features), lengths

    def get_config(self) -> dict:
        """Returns the config, from which Keras rebuilds the layer."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
