"""The recurrent decoder of one layer, with attention and input feeding."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, DecoderConfig, from_dict
from tfkd.layers.attention import AdditiveAttention, AttentionMemory
from tfkd.layers.attention_scan import attention_scan
from tfkd.layers.cells import GATES, forget_gate_bias, four_gate_step, state_units
from tfkd.layers.dropout import Dropout
from tfkd.layers.low_rank import add_kernel, as_tensors
from tfkd.layers.matmul import project, widen_after
from tfkd.layers.static_shape import dimensions
from tfkd.models.decoders.attending import AttendingDecoder


class DecoderMemory(NamedTuple):
    """Tensors that every step reads; the gates are ordered as in `four_gate_step`."""

    attention: AttentionMemory
    token_gates: tf.Tensor  # [V, 4H or more]: each token's contribution to the gates, with bias
    gate_kernel: tf.Tensor  # [D + H, 4H or more]: maps context and hidden state to the gates
    output_kernel: tf.Tensor  # [H + D, V]
    # With kernels of rank R: [D, R] and [H, R], which come before the gate kernel, [2R, 4H].
    reductions: tuple[tf.Tensor, ...] = ()


class DecoderState(NamedTuple):
    """The state that one hypothesis carries from step to step; N is utterances times hypotheses."""

    hidden: tf.Tensor  # [N, H]
    cell: tf.Tensor  # [N, H]; [N, 0] for a GRU
    context: tf.Tensor  # [N, D]
    attention_sum: tf.Tensor  # [N, S]: the sum of the alignments so far
    peak_frame: tf.Tensor  # [N] int32: where the last alignment was greatest


@keras.saving.register_keras_serializable("tfkd")
class AttentionDecoder(AttendingDecoder):
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
        self.attention = AdditiveAttention(attention, name="attention", dtype=self.dtype_policy)
        self.vocab_size = vocab_size
        self.dropout = Dropout(self.config.dropout, dtype=self.dtype_policy)

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
        rank = self.config.rank
        self.context_kernel = add_kernel(self, "context_kernel", (encoded_units, width), rank)
        self.recurrent_kernel = add_kernel(
            self, "recurrent_kernel", (units, width), rank, initializer="orthogonal"
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
        """Computes the tensors that depend on encoded [B, S, D] and the weights alone."""
        token_gates = tf.matmul(self.embedding, self.token_kernel) + self.bias
        context, recurrent = map(as_tensors, (self.context_kernel, self.recurrent_kernel))
        reductions: tuple[tf.Tensor, ...] = ()
        if self.config.rank:
            reductions, (context, recurrent) = zip(context, recurrent, strict=True)
        if self.config.cell == "gru":
            token_gates, context, recurrent = self._as_four_gates(token_gates, context, recurrent)
        with tf.control_dependencies([encoded]):
            gate_kernel = tf.concat([context, recurrent], 0)
        if encoded.shape[0] != 1:  # Wider kernels are no faster for products of few rows.
            token_gates, gate_kernel = widen_after([token_gates, gate_kernel], encoded)
        return DecoderMemory(
            self.attention.memory(encoded, encoded_lengths),
            token_gates,
            gate_kernel,
            tf.convert_to_tensor(self.output_kernel),
            reductions,
        )

    def _as_four_gates(
        self, token_gates: tf.Tensor, context: tf.Tensor, recurrent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rearranges a GRU's kernels to four gates, the candidate's input and state apart."""
        both, units = 2 * self.config.units, self.config.units
        bias = tf.convert_to_tensor(self.recurrent_bias)
        of_state = tf.repeat(bias[None, both:], tf.shape(token_gates)[0], 0)
        token_gates = tf.concat(
            [token_gates[:, :both] + bias[:both], token_gates[:, both:], of_state], 1
        )
        context = tf.pad(context, [[0, 0], [0, units]])
        nothing = tf.zeros([recurrent.shape[0], units], recurrent.dtype)
        recurrent = tf.concat([recurrent[:, :both], nothing, recurrent[:, both:]], 1)
        return token_gates, context, recurrent

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> DecoderState:
        """Makes the zero state of one hypothesis for each utterance of encoded [B, S, D].

        Its size does not depend on `max_tokens`.
        """
        batch, steps, _ = dimensions(encoded)
        cell_units = state_units(self.config.cell, self.config.units)
        return DecoderState(
            hidden=tf.zeros([batch, self.config.units], encoded.dtype),
            cell=tf.zeros([batch, cell_units], encoded.dtype),
            context=tf.zeros([batch, self.encoded_units], encoded.dtype),
            attention_sum=tf.zeros([batch, steps], encoded.dtype),
            peak_frame=tf.zeros([batch], tf.int32),
        )

    def step(
        self, token_ids: tf.Tensor, state: DecoderState, memory: DecoderMemory
    ) -> tuple[tf.Tensor, DecoderState]:
        """Maps token_ids [N] int32 and the state to logits [N, V] and the next state."""
        before = [state.context, state.hidden]
        if memory.reductions:
            before = [
                tf.matmul(each, left) for each, left in zip(before, memory.reductions, strict=True)
            ]
        inputs = tf.matmul(tf.concat(before, -1), memory.gate_kernel)
        inputs += tf.gather(memory.token_gates, token_ids)
        hidden, cell, _ = four_gate_step(self.config.cell, inputs, state.hidden, state.cell)
        # `__call__` would cast to the precision of training; a search computes in float32.
        context, alignment = self.attention.call(hidden, state.attention_sum, memory.attention)
        attention_sum = state.attention_sum + alignment
        peak_frame = tf.argmax(alignment, -1, tf.int32)
        state = DecoderState(hidden, cell, context, attention_sum, peak_frame)
        return self._logits(tf.concat([hidden, context], -1), memory), state

    def _logits(self, outputs: tf.Tensor, memory: DecoderMemory) -> tf.Tensor:
        """Projects hidden and context [..., H + D] to the vocabulary."""
        return project(outputs, memory.output_kernel) + self.output_bias

    def teacher_forced(
        self, token_ids: tf.Tensor, encoded: tf.Tensor, memory: DecoderMemory, training: bool
    ) -> tf.Tensor:
        """Maps inputs [N, U] to logits [N, U, V], which one product projects for all steps."""
        token_gates = tf.gather(memory.token_gates, tf.transpose(token_ids))
        outputs = attention_scan(
            self.config.cell, token_gates, _whole_gate_kernel(memory), memory.attention
        )
        outputs = self.dropout(tf.transpose(outputs, [1, 0, 2]), training=training)
        return self._logits(outputs, memory)

    def get_config(self) -> dict:
        attention = dataclasses.asdict(self.attention.config)
        return {**super().get_config(), "attention": attention}


def _whole_gate_kernel(memory: DecoderMemory) -> tf.Tensor:
    """The gate kernel [D + H, 4H or more] of any rank; to multiply it once is cheap in training."""
    if not memory.reductions:
        return memory.gate_kernel
    sizes = [left.shape[-1] for left in memory.reductions]
    rights = tf.split(memory.gate_kernel, sizes)
    return tf.concat([tf.matmul(*pair) for pair in zip(memory.reductions, rights, strict=True)], 0)
