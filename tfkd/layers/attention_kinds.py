"""The attentions that a recurrent decoder can have: the table of the kinds in a config.

To add one, write a layer with the methods of `Attention` in a file of its own, and add its kind
here and to `tfkd.config.AttentionConfig`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, from_dict
from tfkd.layers.attention import AdditiveAttention

# Maps queries [N, H] and the sum of earlier alignments [N, S] to contexts [N, D] and alignments.
AttentionStep = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Attention(Protocol):
    """What a recurrent decoder asks of its attention.

    Shapes: B utterances of S encodings of D units; N = B * K queries of H units, of which those of
    one utterance are neighbours and share its memory.
    """

    config: AttentionConfig

    def build(self, encoded_units: int, query_units: int) -> None:
        """Creates every weight for encodings of D and queries of H units."""

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> Any:
        """What every step reads and none changes, of encoded [B, S, D] and its lengths [B]."""

    def call(
        self, query: tf.Tensor, attention_sum: tf.Tensor, memory: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of a search: an `AttentionStep` that is given the memory besides."""

    def in_training(self, memory: Any) -> AttentionStep:
        """A step for a loop that TensorFlow differentiates, which may spare memory."""


ATTENTIONS: dict[str, type[keras.layers.Layer]] = {
    "additive": AdditiveAttention,
    "location": AdditiveAttention,
}


def make_attention(config: AttentionConfig | dict, **kwargs: Any) -> Any:
    """The layer that `config.kind` names; an `Attention`.

    Args:
      kwargs: those of every Keras layer, such as `name` and `dtype`.
    """
    if isinstance(config, dict):
        config = from_dict(AttentionConfig, config)
    return ATTENTIONS[config.kind](config, **kwargs)
