"""Decoders: encodings and tokens to logits of the next token. See `tfkd.models.interface`."""

from __future__ import annotations

from tfkd.config import ModelConfig
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.decoders.stacked_rnn import StackedDecoder
from tfkd.models.interface import DecoderLayer


def make_decoder(config: ModelConfig, vocab_size: int, **kwargs) -> DecoderLayer:
    """The decoder that `config.decoder.kind` names.

    Args:
      vocab_size: size of the tokenizer's vocabulary, special tokens included.
      kwargs: those of every Keras layer, such as `name` and `dtype`.
    """
    decoder = config.decoder
    is_plain = decoder.layers == 1 and decoder.input_feeding and decoder.teacher_forcing_rate == 1
    layer = AttentionDecoder if is_plain else StackedDecoder
    return layer(decoder, config.attention, vocab_size, **kwargs)
