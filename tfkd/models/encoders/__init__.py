"""Encoders: features to a shorter sequence of encodings. See `tfkd.models.interface`."""

from __future__ import annotations

from collections.abc import Callable

from tfkd.config import (
    Conv2dRecurrentConfig,
    ConvolutionalEncoderConfig,
    EncoderConfig,
    ModelConfig,
    TransformerEncoderConfig,
)
from tfkd.models.encoders.conv2d_recurrent import Conv2dRecurrentEncoder
from tfkd.models.encoders.convolutional import ConvolutionalEncoder
from tfkd.models.encoders.recurrent import Encoder
from tfkd.models.encoders.transformer import TransformerEncoder
from tfkd.models.interface import EncoderLayer

_LAYERS: dict[type, Callable[..., EncoderLayer]] = {
    EncoderConfig: Encoder,
    Conv2dRecurrentConfig: Conv2dRecurrentEncoder,
    TransformerEncoderConfig: TransformerEncoder,
    ConvolutionalEncoderConfig: ConvolutionalEncoder,
}


def make_encoder(config: ModelConfig, **kwargs) -> EncoderLayer:
    """Makes the encoder that `config.encoder.kind` names.

    Args:
      kwargs: arguments of every Keras layer, such as `name` and `dtype`.
    """
    return _LAYERS[type(config.encoder)](config.encoder, **kwargs)
