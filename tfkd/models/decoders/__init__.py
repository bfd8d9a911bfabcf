"""Decoders: encodings and tokens to logits of the next token. See `tfkd.models.interface`."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfkd.config import (
    ConvolutionalDecoderConfig,
    ModelConfig,
    NoDecoderConfig,
    TransformerDecoderConfig,
)
from tfkd.layers.attention import AdditiveAttention
from tfkd.layers.attention_kinds import ATTENTIONS
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.decoders.convolutional import ConvolutionalDecoder
from tfkd.models.decoders.ctc import CtcDecoder
from tfkd.models.decoders.stacked_rnn import StackedDecoder
from tfkd.models.decoders.transformer import TransformerDecoder
from tfkd.models.interface import DecoderLayer


def make_decoder(
    config: ModelConfig,
    vocab_size: int,
    ctc_logits: Callable[[tf.Tensor], tf.Tensor | None],
    **kwargs,
) -> DecoderLayer:
    """Makes the decoder that `config.decoder.kind` names.

    Args:
      vocab_size: size of the tokenizer's vocabulary, special tokens included.
      ctc_logits: maps encoded [B, S, D] to the logits of the model's CTC head, for the decoder of
        kind "none".
      kwargs: arguments of every Keras layer, such as `name` and `dtype`.
    """
    decoder = config.decoder
    if isinstance(decoder, NoDecoderConfig):
        return CtcDecoder(ctc_logits)
    if isinstance(decoder, TransformerDecoderConfig):
        return TransformerDecoder(decoder, vocab_size, **kwargs)
    if isinstance(decoder, ConvolutionalDecoderConfig):
        return ConvolutionalDecoder(decoder, vocab_size, **kwargs)
    is_plain = decoder.layers == 1 and decoder.input_feeding and decoder.teacher_forcing_rate == 1
    # The plain decoder has a gradient written by hand, for this attention alone.
    is_additive = ATTENTIONS[config.attention.kind] is AdditiveAttention
    layer = AttentionDecoder if is_plain and is_additive else StackedDecoder
    return layer(decoder, config.attention, vocab_size, **kwargs)
