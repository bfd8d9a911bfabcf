"""The base class of decoders with attention: teacher forcing, readout and config."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfkd.beam_search import Readout
from tfkd.layers.static_shape import dimensions
from tfkd.models.decoders.coverage import coverage_readout


class AttendingDecoder(keras.layers.Layer):
    """A decoder whose state has `attention_sum` and `peak_frame`.

    A subclass adds `memory`, `initial_state` and `step` (see `tfkd.models.interface`), and
    `teacher_forced`.

    Attributes:
      config: dataclass of the settings that the layer is built from.
    """

    config: Any
    vocab_size: int

    def teacher_forced(
        self, token_ids: tf.Tensor, encoded: tf.Tensor, memory: Any, training: bool
    ) -> tf.Tensor:
        """Maps inputs [N, U] to logits [N, U, V], given encoded [B, S, D] and the memory of it."""
        raise NotImplementedError

    def call(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Computes logits by teacher forcing.

        Args:
          token_ids: [B, K, U] int32, the inputs of the steps; the first is sos.
        Returns:
          Logits [B, K, U, V] float32.
        """
        batch, hypotheses, steps = dimensions(token_ids)
        memory = self.memory(encoded, encoded_lengths)
        inputs = tf.reshape(token_ids, [-1, steps])
        logits = self.teacher_forced(inputs, encoded, memory, training)
        logits = tf.reshape(logits, [batch, hypotheses, steps, self.vocab_size])
        return tf.cast(logits, tf.float32)

    def readout(self, state: Any, encoded_lengths: tf.Tensor) -> Readout:
        """Reads where each hypothesis attended last, and its coverage of encoded_lengths [B]."""
        return coverage_readout(state.attention_sum, state.peak_frame, encoded_lengths)

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        own = {"config": dataclasses.asdict(self.config), "vocab_size": self.vocab_size}
        return {**super().get_config(), **own}
