"""Encoders: features to a shorter sequence of encodings. See `tfkd.models.interface`."""

from __future__ import annotations

from tfkd.config import EncoderConfig
from tfkd.models.encoders.recurrent import Encoder
from tfkd.models.interface import EncoderLayer

_LAYERS = {EncoderConfig: Encoder}


def make_encoder(config: EncoderConfig, **kwargs) -> EncoderLayer:
    """The encoder that `config.kind` names.

    Args:
      kwargs: those of every Keras layer, such as `name` and `dtype`.
    """
    return _LAYERS[type(config)](config, **kwargs)
