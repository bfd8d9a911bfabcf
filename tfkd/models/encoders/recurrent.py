"""The recurrent encoder: time reduction and bidirectional LSTM or GRU layers."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.config import EncoderConfig, from_dict
from tfkd.layers.dropout import Dropout
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.recurrent import BidirectionalRNN, zero_beyond
from tfkd.layers.static_shape import dimensions
from tfkd.models.encoders.halving import HalvingConv


def join_pairs(inputs: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenates neighbouring frames: [B, T, F] to [B, ceil(T/2), 2F] (Chan et al. 2016)."""
    batch, steps, width = dimensions(inputs)
    padded = tf.pad(inputs, [[0, 0], [0, steps % 2], [0, 0]])
    joined = tf.reshape(padded, [batch, (steps + 1) // 2, 2 * width])
    return joined, (lengths + 1) // 2


@keras.saving.register_keras_serializable("tfkd")
class Encoder(keras.layers.Layer):
    """Time reduction and bidirectional recurrent layers.

    References:
      Chan et al. 2016, arXiv:1508.01211, eq. 5 (pyramid).
    """

    def __init__(self, config: EncoderConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(EncoderConfig, config) if isinstance(config, dict) else config
        self.time_reduction = self.config.time_reduction
        self.halvings = self.time_reduction.bit_length() - 1
        is_conv, dtype = self.config.reduction == "conv", self.dtype_policy
        self.convs = [
            HalvingConv(self.config.conv_units, name=f"conv_{i}", dtype=dtype)
            for i in range(self.halvings if is_conv else 0)
        ]
        self.recurrent = [
            BidirectionalRNN(
                self.config.cell,
                self.config.units,
                self.config.rank,
                name=f"recurrent_{i}",
                dtype=dtype,
            )
            for i in range(self.config.layers)
        ]
        self.norms = [
            LayerNormalization(name=f"norm_{i}", dtype=dtype) for i in range(self.config.layers)
        ]
        self.dropout = Dropout(self.config.dropout, dtype=dtype)

    def build(self, input_shape) -> None:
        width = input_shape[-1]
        for conv in self.convs:
            conv.build((None, None, width))
            width = self.config.conv_units
        for i, layer in enumerate(self.recurrent):
            layer.build((None, None, width * 2 ** self._joins_before(i)))
            width = 2 * self.config.units
            self.norms[i].build((None, None, width))
        self.output_units = width
        self.built = True

    def _joins_before(self, layer: int) -> int:
        """How often pairs of frames are joined before a layer."""
        if self.config.reduction != "pyramid":
            return 0
        if layer == 0:
            return max(0, self.halvings - (self.config.layers - 1))
        return int(layer <= self.halvings)

    def call(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B]."""
        for conv in self.convs:
            features, lengths = conv(features, lengths)
        for i, (layer, norm) in enumerate(zip(self.recurrent, self.norms, strict=True)):
            for _ in range(self._joins_before(i)):
                features, lengths = join_pairs(features, lengths)
            # Without normalisation, small initial outputs shrink from layer to layer, and training
            # stays long in a state that ignores the audio (docs/decisions/0007-layer-norm.md).
            features = zero_beyond(norm(layer(features, lengths)), lengths)
            features = self.dropout(features, training=training)
        return features, lengths

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
