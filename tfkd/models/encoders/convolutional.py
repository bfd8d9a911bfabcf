"""The convolutional encoder."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.config import ConvolutionalEncoderConfig, from_dict
from tfkd.layers.convolution import GatedConvolution
from tfkd.layers.dropout import Dropout
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.recurrent import zero_beyond
from tfkd.layers.static_shape import dimensions
from tfkd.layers.transformer import layer_norm, sinusoids
from tfkd.models.encoders.halving import HalvingEncoder


@keras.saving.register_keras_serializable("tfkd")
class ConvolutionalEncoder(HalvingEncoder):
    """Convolutions that halve time, and gated convolutions with residual connections.

    References:
      Gehring et al. 2017, arXiv:1705.03122, section 3.2; here layer normalisation of each block's
      input replaces their weight normalisation.
    """

    def __init__(self, config: ConvolutionalEncoderConfig | dict, **kwargs) -> None:
        if isinstance(config, dict):
            config = from_dict(ConvolutionalEncoderConfig, config)
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        self.blocks = [
            GatedConvolution(config.units, config.width, False, name=f"block_{i}", dtype=dtype)
            for i in range(config.layers)
        ]
        self.norms = [
            LayerNormalization(name=f"norm_{i}", dtype=dtype) for i in range(config.layers + 1)
        ]
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, input_shape) -> None:
        """Creates every weight for features of shape (None, None, F)."""
        super().build(input_shape)
        for block in self.blocks:
            block.build()
        for norm in self.norms:
            norm.build((None, None, self.config.units))
        self.built = True

    def call(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B]."""
        x, lengths = self.halved(features, lengths)
        x += tf.cast(sinusoids(tf.range(dimensions(x)[1]), self.config.units), x.dtype)
        *norms, last_norm = self.norms
        for block, norm in zip(self.blocks, norms, strict=True):
            # Set padding to zero, so that the result does not depend on the length of the batch.
            seen = zero_beyond(layer_norm(norm, x), lengths)
            x += self.dropout.call(block.call(seen), training=training)
        return zero_beyond(layer_norm(last_norm, x), lengths), lengths
