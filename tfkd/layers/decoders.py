"""The speller: a recurrent layer with attention and input feeding, state in and state out."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, DecoderConfig, from_dict
from tfkd.layers.attention import AdditiveAttention, AttentionMemory
from tfkd.layers.recurrent import GATES, forget_gate_bias, gru_cell, lstm_cell, project


class DecoderMemory(NamedTuple):
    """What every step reads and none changes."""

    attention: AttentionMemory
    token_gates: tf.Tensor  # [V, G * H]: the share of each token in the gates, bias included


class DecoderState(NamedTuple):
    """What one hypothesis carries from step to step; N is utterances times hypotheses."""

    hidden: tf.Tensor  # [N, H]
    cell: tf.Tensor  # [N, H]; [N, 0] for a GRU
    context: tf.Tensor  # [N, D]
    attention_sum: tf.Tensor  # [N, S]: the sum of the alignments so far
    peak_frame: tf.Tensor  # [N] int32: where the last alignment was greatest


@keras.saving.register_keras_serializable("tfkd")
class AttentionDecoder(keras.layers.Layer):
    """Maps the last token and the state to logits of the next token.

    The recurrent layer reads the token and the last context; attention is queried with its output;
    logits come from that output and the new context (Chan et al. 2016, arXiv:1508.01211, eq. 6-8).
    """

    def __init__(
        self,
        config: DecoderConfig | dict,
        attention: AttentionConfig | dict,
        vocab_size: int,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(DecoderConfig, config) if isinstance(config, dict) else config
        self.attention = AdditiveAttention(attention, name="attention")
        self.vocab_size = vocab_size
        self.dropout = keras.layers.Dropout(self.config.dropout)

    def build(self, encoded_units: int) -> None:
        units, width = self.config.units, GATES[self.config.cell] * self.config.units
        self.encoded_units = encoded_units
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, self.config.embedding_units),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        self.token_kernel = self.add_weight(
            name="token_kernel", shape=(self.config.embedding_units, width)
        )
        self.context_kernel = self.add_weight(name="context_kernel", shape=(encoded_units, width))
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=forget_gate_bias(self.config.cell)
        )
        if self.config.cell == "gru":
            self.recurrent_bias = self.add_weight(
                name="recurrent_bias", shape=(width,), initializer="zeros"
            )
        self.attention.build(encoded_units, units)
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(units + encoded_units, self.vocab_size)
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.vocab_size,), initializer="zeros"
        )
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> DecoderMemory:
        """Everything that depends on encoded [B, S, D] and the weights alone."""
        token_gates = tf.matmul(self.embedding, self.token_kernel) + self.bias
        return DecoderMemory(self.attention.memory(encoded, encoded_lengths), token_gates)

    def initial_state(self, encoded: tf.Tensor, hypotheses: tf.Tensor | int = 1) -> DecoderState:
        """Zero state for `hypotheses` hypotheses of each utterance of encoded [B, S, D]."""
        batch, steps = encoded.shape[0] or tf.shape(encoded)[0], tf.shape(encoded)[1]
        count = batch * hypotheses
        cell_units = self.config.units if self.config.cell == "lstm" else 0
        return DecoderState(
            hidden=tf.zeros([count, self.config.units], encoded.dtype),
            cell=tf.zeros([count, cell_units], encoded.dtype),
            context=tf.zeros([count, self.encoded_units], encoded.dtype),
            attention_sum=tf.zeros([count, steps], encoded.dtype),
            peak_frame=tf.zeros([count], tf.int32),
        )

    def step(
        self, token_ids: tf.Tensor, state: DecoderState, memory: DecoderMemory
    ) -> tuple[tf.Tensor, DecoderState]:
        """One step: token_ids [N] int32 and state to logits [N, V] and the next state."""
        state = self._advance(tf.gather(memory.token_gates, token_ids), state, memory)
        return self.logits(tf.concat([state.hidden, state.context], -1)), state

    def _advance(
        self, token_gates: tf.Tensor, state: DecoderState, memory: DecoderMemory
    ) -> DecoderState:
        hidden, cell = self._recur(token_gates, state)
        context, alignment = self.attention(hidden, state.attention_sum, memory.attention)
        peak_frame = tf.argmax(alignment, -1, tf.int32)
        return DecoderState(hidden, cell, context, state.attention_sum + alignment, peak_frame)

    def _recur(self, token_gates: tf.Tensor, state: DecoderState) -> tuple[tf.Tensor, tf.Tensor]:
        if self.config.cell == "lstm":
            kernel = tf.concat([self.context_kernel, self.recurrent_kernel], 0)
            gates = token_gates + tf.matmul(tf.concat([state.context, state.hidden], -1), kernel)
            return lstm_cell(gates, state.cell)
        projected = token_gates + tf.matmul(state.context, self.context_kernel)
        recurrent = tf.matmul(state.hidden, self.recurrent_kernel) + self.recurrent_bias
        return gru_cell(projected, recurrent, state.hidden), state.cell

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Projects hidden and context [..., H + D] to the vocabulary."""
        return project(outputs, tf.convert_to_tensor(self.output_kernel)) + self.output_bias

    def call(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Teacher forcing.

        Args:
          token_ids: [B, K, U] int32, the inputs of each step (starting with sos).
        Returns:
          Logits [B, K, U, V]; the projection to the vocabulary is one product for all steps.
        """
        shape = tf.shape(token_ids)
        batch, hypotheses, steps = shape[0], shape[1], shape[2]
        memory = self.memory(encoded, encoded_lengths)
        by_step = tf.transpose(tf.reshape(token_ids, [-1, steps]))
        token_gates = tf.TensorArray(encoded.dtype, size=steps).unstack(
            tf.gather(memory.token_gates, by_step)
        )

        def body(t, state, outputs):
            state = self._advance(token_gates.read(t), state, memory)
            output = tf.concat([state.hidden, state.context], -1)
            return t + 1, state, outputs.write(t, output)

        width = self.config.units + self.encoded_units
        outputs = tf.TensorArray(encoded.dtype, size=steps, element_shape=[None, width])
        state = self.initial_state(encoded, hypotheses)
        *_, outputs = tf.while_loop(lambda t, *_: t < steps, body, (0, state, outputs))
        stacked = self.dropout(tf.transpose(outputs.stack(), [1, 0, 2]), training=training)
        return tf.reshape(self.logits(stacked), [batch, hypotheses, steps, self.vocab_size])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "config": dataclasses.asdict(self.config),
            "attention": dataclasses.asdict(self.attention.config),
            "vocab_size": self.vocab_size,
        }
