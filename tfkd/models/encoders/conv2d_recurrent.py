"""The encoder of two-dimensional convolutions and stacked recurrent layers."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.config import Conv2dRecurrentConfig, from_dict
from tfkd.errors import ConfigError
from tfkd.layers.dropout import Dropout
from tfkd.layers.recurrent import BidirectionalRNN, zero_beyond
from tfkd.layers.static_shape import dimensions


@keras.saving.register_keras_serializable("tfkd")
class HalvingConv2d(keras.layers.Layer):
    """Convolution over time and frequency with stride 2 in both, and ReLU.

    Time is padded by a fixed number of frames, so that the result does not depend on the padding of
    the batch; frequency is not padded.
    """

    def __init__(self, filters: int, kernel_frames: int, kernel_bins: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, (kernel_frames, kernel_bins)
        self.conv = keras.layers.Conv2D(
            filters, self.kernel_size, strides=2, dtype=self.dtype_policy
        )

    def build(self, input_shape) -> None:
        """Creates the kernel for inputs of shape (None, None, F, C)."""
        self.conv.build(input_shape)
        self.output_bins = (input_shape[2] - self.kernel_size[1]) // 2 + 1
        self.built = True

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps inputs [B, T, F, C] and lengths [B] to [B, ceil(T / 2), F', filters] and lengths."""
        # Output t sees as many frames before 2t as after it.
        before = (self.kernel_size[0] - 1) // 2
        padded = tf.pad(inputs, [[0, 0], [before, self.kernel_size[0]], [0, 0], [0, 0]])
        outputs = tf.nn.relu(self.conv(padded))[:, : (tf.shape(inputs)[1] + 1) // 2]
        lengths = (lengths + 1) // 2
        batch, steps, *_ = dimensions(outputs)
        flat = tf.reshape(outputs, [batch, steps, self.output_bins * self.filters])
        flat = zero_beyond(flat, lengths)
        return tf.reshape(flat, [batch, steps, self.output_bins, self.filters]), lengths

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        frames, bins = self.kernel_size
        sizes = {"filters": self.filters, "kernel_frames": frames, "kernel_bins": bins}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("tfkd")
class Conv2dRecurrentEncoder(keras.layers.Layer):
    """Convolutions that halve time and frequency, and a stack of bidirectional recurrent layers.

    References:
      Mun'im et al. 2019, arXiv:1811.04531, table 1. Its parameter counts are those of a stack whose
      layers read both directions concatenated, and whose last layer's directions are summed
      (docs/decisions/0019-families.md).
    """

    def __init__(self, config: Conv2dRecurrentConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = from_dict(Conv2dRecurrentConfig, config)
        self.config, dtype = config, self.dtype_policy
        self.time_reduction = 2**config.convolutions
        kernel = config.filters, config.kernel_frames, config.kernel_bins
        self.convs = [
            HalvingConv2d(*kernel, name=f"conv_{i}", dtype=dtype)
            for i in range(config.convolutions)
        ]
        self.recurrent = [
            BidirectionalRNN(
                config.cell, config.units, config.rank, name=f"recurrent_{i}", dtype=dtype
            )
            for i in range(config.layers)
        ]
        self.dropout = Dropout(config.dropout, dtype=dtype)
        self.is_summed = config.directions == "summed"
        self.output_units = config.units * (1 if self.is_summed else 2)

    def build(self, input_shape) -> None:
        """Creates every weight for features of shape (None, None, F).

        Raises:
          ConfigError: if F is too small for the convolutions.
        """
        bins, channels = input_shape[-1], 1
        for conv in self.convs:
            if bins < self.config.kernel_bins:
                raise ConfigError(
                    f"model.encoder.convolutions: {input_shape[-1]} features are too few for "
                    f"{len(self.convs)} convolutions over {self.config.kernel_bins} bins each",
                    remedy="lower it, or kernel_bins, or choose a frontend with more features",
                )
            conv.build((None, None, bins, channels))
            bins, channels = conv.output_bins, self.config.filters
        width = bins * channels
        for layer in self.recurrent:
            layer.build((None, None, width))
            width = 2 * self.config.units
        self.built = True

    def call(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B]."""
        images = tf.expand_dims(features, -1)
        for conv in self.convs:
            images, lengths = conv(images, lengths)
        batch, steps, bins, channels = dimensions(images)
        encoded = tf.reshape(images, [batch, steps, bins * channels])
        for layer in self.recurrent:
            encoded = layer(self.dropout(encoded, training=training), lengths)
        if self.is_summed:
            encoded = tf.add_n(tf.split(encoded, 2, -1))
        return encoded, lengths

    def get_config(self) -> dict:
        """Returns the config, from which Keras rebuilds the layer."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
