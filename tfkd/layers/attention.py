"""Attention over the encodings of one utterance by all of its hypotheses.

Encodings and keys are stored once an utterance and never copied per hypothesis: queries come as
[B * K], are viewed as [B, K], and meet keys of [B, 1, S, A].
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, from_dict
from tfkd.layers.recurrent import project

_MASKED = -1e9


class AttentionMemory(NamedTuple):
    """What attention needs of the encoder's output, computed once an utterance."""

    encoded: tf.Tensor  # [B, S, D]
    keys: tf.Tensor  # [B, 1, S, A]
    mask_bias: tf.Tensor  # [B, 1, S]: zero inside, very negative beyond the utterance


@keras.saving.register_keras_serializable("tfkd")
class AdditiveAttention(keras.layers.Layer):
    """MLP attention, location-aware if so configured.

    References:
      Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2; Chorowski et al. 2015,
      arXiv:1506.07503, eq. 9, with the sum of all earlier alignments as the location.
    """

    def __init__(self, config: AttentionConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(AttentionConfig, config) if isinstance(config, dict) else config

    def build(self, encoded_units: int, query_units: int) -> None:
        units = self.config.units
        self.key_kernel = self.add_weight(name="key_kernel", shape=(encoded_units, units))
        self.query_kernel = self.add_weight(name="query_kernel", shape=(query_units, units))
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.energy = self.add_weight(name="energy", shape=(units,), initializer="random_normal")
        if self.config.kind == "location":
            filters = self.config.location_filters
            width = self.config.location_width
            self.filters = self.add_weight(name="filters", shape=(width, 1, filters))
            self.filter_kernel = self.add_weight(name="filter_kernel", shape=(filters, units))
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> AttentionMemory:
        """Everything that depends on encoded [B, S, D] and its lengths [B] alone."""
        keys = project(encoded, tf.convert_to_tensor(self.key_kernel)) + self.bias
        inside = tf.sequence_mask(encoded_lengths, tf.shape(encoded)[1], dtype=encoded.dtype)
        return AttentionMemory(
            encoded, tf.expand_dims(keys, 1), tf.expand_dims((1.0 - inside) * _MASKED, 1)
        )

    def call(
        self, query: tf.Tensor, attention_sum: tf.Tensor, memory: AttentionMemory
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attends for N = B * K queries.

        Args:
          query: [N, Q], the decoder's hidden states.
          attention_sum: [N, S], the sum of the earlier alignments.
        Returns:
          context [N, D] and alignment [N, S], which sums to one over S.
        """
        encoded, keys, mask_bias = memory
        batch, steps = tf.shape(encoded)[0], tf.shape(encoded)[1]
        units = self.config.units
        queries = tf.reshape(tf.matmul(query, self.query_kernel), [batch, -1, 1, units])
        activation = keys + queries
        if self.config.kind == "location":
            located = tf.nn.conv1d(tf.expand_dims(attention_sum, -1), self.filters, 1, "SAME")
            located = project(located, tf.convert_to_tensor(self.filter_kernel))
            activation += tf.reshape(located, [batch, -1, steps, units])
        energies = tf.reduce_sum(tf.tanh(activation) * self.energy, -1)
        alignment = tf.nn.softmax(energies + mask_bias)
        context = tf.matmul(alignment, encoded)
        return (
            tf.reshape(context, [-1, encoded.shape[-1]]),
            tf.reshape(alignment, [-1, steps]),
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
