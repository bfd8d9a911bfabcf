"""Teacher forcing of the attention decoder, with its gradient written by hand.

Only what depends on the recurrence is inside the loops: the gradient of a kernel is one product
after the backward loop. With activations a = tanh(keys + query), energies e = v . a and their
gradient de, query and keys get, for each step,

    dquery = sum_s de_s v (1 - a_s^2) = -v sum_s de_s a_s^2     (de of a softmax sums to zero)
    dkeys_s = v (de_s - de_s a_s^2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfkd.layers.attention import (
    AttentionMemory,
    AttentionWeights,
    activations,
    attend,
    of_hypotheses,
)
from tfkd.layers.cells import (
    Cell,
    GruTape,
    LstmTape,
    four_gate_backward,
    four_gate_step,
    shifted,
    state_units,
)
from tfkd.layers.dimensions import dimensions
from tfkd.layers.products import outer_sum, project, transposed
from tfkd.layers.recurrent import Steps, one_by_one, unstack


class _Tape(NamedTuple):
    """What the backward loop needs of the U forward steps."""

    hiddens: tf.Tensor  # [U, N, H]
    contexts: tf.Tensor  # [U, N, D]
    gates: tf.Tensor  # [U, N, 4H], activated
    cells: tf.Tensor  # [U, N, H]; [U, N, 0] of a GRU
    alignments: tf.Tensor  # [U, B, K, S]
    located: tf.Tensor  # [U, N, S * F]


class _Sums(NamedTuple):
    """Gradients that are summed over the steps inside the backward loop, in float32."""

    energy: tf.Tensor  # [A]
    squares: tf.Tensor  # [B, 1, S, A], de a^2
    filters: tf.Tensor  # [F, A]


class _OfAttention(NamedTuple):
    """Gradients of one step of attention."""

    query: tf.Tensor  # [N, A]
    energies: tf.Tensor  # [B, K, S]
    located: tf.Tensor  # [N, S * F]
    attention_sum: tf.Tensor  # [N, S]


def attention_scan(
    cell: Cell, token_gates: tf.Tensor, gate_kernel: tf.Tensor, memory: AttentionMemory
) -> tf.Tensor:
    """Runs the decoder over known tokens from a zero state.

    Args:
      token_gates: [U, N, 4H], what each token gives to the gates, bias included (their layout is
        that of `four_gate_step`); N is B times K hypotheses. Wider if the kernel was widened.
      gate_kernel: [D + H, 4H], from context and hidden state; as wide as `token_gates`.
    Returns:
      Hidden state and context of each step, [U, N, H + D].
    """

    @tf.custom_gradient
    def scan(token_gates, gate_kernel, encoded, keys, location, *weights):
        inside = AttentionMemory(
            encoded, keys, memory.mask_bias, location, AttentionWeights(*weights)
        )
        tape = _forward(cell, token_gates, gate_kernel, inside)

        def gradient(upstream):
            return _backward(cell, tape, upstream, gate_kernel, inside)

        return tf.concat([tape.hiddens, tape.contexts], -1), gradient

    differentiable = (memory.encoded, memory.keys, memory.location, *memory.weights)
    return scan(token_gates, gate_kernel, *differentiable)


def _forward(
    cell: Cell, token_gates: tf.Tensor, gate_kernel: tf.Tensor, memory: AttentionMemory
) -> _Tape:
    (steps, count, _), (_, frames, encoded_units) = map(dimensions, (token_gates, memory.encoded))
    units = memory.weights.query.shape[0]
    inputs = unstack(token_gates)

    def body(t, hidden, state, context, attention_sum, tape):
        products = tf.matmul(tf.concat([context, hidden], -1), gate_kernel)
        hidden, state, gates = four_gate_step(cell, inputs.read(t) + products, hidden, state)
        context, alignment, located = attend(hidden, attention_sum, memory)
        values = (hidden, context, gates, state, alignment, located)
        tape = [array.write(t, value) for array, value in zip(tape, values)]
        attention_sum += tf.reshape(alignment, tf.shape(attention_sum))
        return t + 1, hidden, state, context, attention_sum, tape

    shapes: list[list[int | None]] = [
        [None, units], [None, encoded_units], [None, 4 * units],
        [None, state_units(cell, units)], [None, None, None], [None, None],
    ]  # fmt: skip
    zeros = [
        tf.zeros([count, width], token_gates.dtype)
        for width in (units, state_units(cell, units), encoded_units, frames)
    ]
    tape = [tf.TensorArray(token_gates.dtype, steps, element_shape=shape) for shape in shapes]
    *_, tape = one_by_one(lambda t, *_: t < steps, body, (0, *zeros, tape))
    return _Tape._make(array.stack() for array in tape)


def _attention_backward(
    tape: _Tape, memory: AttentionMemory
) -> Callable[..., tuple[_OfAttention, _Sums]]:
    """The gradient of `attend` at one step, given those of its context and of later steps."""
    alignments, located = unstack(tape.alignments), unstack(tape.located)
    # Activations are computed again: kept, they would be the largest part of a training's memory.
    steps, batch, hypotheses, _ = dimensions(tape.alignments)
    queries = project(tape.hiddens, memory.weights.query)
    queries = unstack(tf.reshape(queries, [steps, batch, hypotheses, queries.shape[-1]]))
    energy, filters = memory.weights.energy, memory.weights.filters
    num_filters, units = filters.shape
    to_alignment = tf.transpose(memory.encoded, [0, 2, 1])
    to_located, to_sum = tf.transpose(filters), tf.transpose(memory.location)

    def through_filters(by_place, d_energies, squares, d_sum):
        d_inputs = tf.reshape(energy * (tf.expand_dims(d_energies, -1) - squares), [-1, units])
        by_place = tf.reshape(by_place, [-1, num_filters])
        d_located = tf.reshape(tf.matmul(d_inputs, to_located), [tf.shape(d_sum)[0], -1])
        d_filters = tf.matmul(by_place, d_inputs, transpose_a=True)
        return d_located, d_sum + tf.matmul(d_located, to_sum), d_filters

    def backward(t, d_context, d_sum, sums):
        by_utterance = [tf.shape(memory.encoded)[0], -1, memory.encoded.shape[-1]]
        d_alignment = tf.matmul(tf.reshape(d_context, by_utterance), to_alignment)
        d_alignment += tf.reshape(d_sum, tf.shape(d_alignment))
        alignment, by_place = alignments.read(t), located.read(t)
        values = of_hypotheses(queries.read(t), by_place, memory.weights)
        activation = activations(memory.keys, *values)
        weighted = alignment * d_alignment
        d_energies = weighted - alignment * tf.reduce_sum(weighted, -1, keepdims=True)
        of_energy = activation * tf.expand_dims(d_energies, -1)
        squares = of_energy * activation
        d_query = tf.reshape(-energy * tf.reduce_sum(squares, 2), [-1, units])
        d_located, d_filters = tf.zeros([tf.shape(d_sum)[0], 0], d_sum.dtype), 0.0
        if num_filters:
            d_located, d_sum, d_filters = through_filters(by_place, d_energies, squares, d_sum)
        sums = _Sums(
            sums.energy + tf.cast(tf.reduce_sum(of_energy, [0, 1, 2]), tf.float32),
            sums.squares + tf.cast(tf.reduce_sum(squares, 1, keepdims=True), tf.float32),
            sums.filters + tf.cast(d_filters, tf.float32),
        )
        return _OfAttention(d_query, d_energies, d_located, d_sum), sums

    return backward


def _attention_sums(alignments: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The sum of the alignments [U, B, K, S] before each step, [U, N, S]."""
    sums = tf.cumsum(alignments, exclusive=True)
    steps, *_, frames = dimensions(sums)
    return tf.reshape(sums, [steps, count, frames])


def _d_encoded(alignments: tf.Tensor, d_contexts: tf.Tensor) -> tf.Tensor:
    """Gradient [B, S, D] that the contexts [U, N, D] give to what was attended to."""
    steps, batch, hypotheses, frames = dimensions(alignments)
    by_utterance = [steps, batch, hypotheses, d_contexts.shape[-1]]
    d_contexts = tf.transpose(tf.reshape(d_contexts, by_utterance), [1, 0, 2, 3])
    weights = tf.reshape(tf.transpose(alignments, [1, 3, 0, 2]), [batch, frames, -1])
    return tf.matmul(weights, tf.reshape(d_contexts, [batch, -1, d_contexts.shape[-1]]))


def _backward(
    cell: Cell,
    tape: _Tape,
    upstream: tf.Tensor,
    gate_kernel: tf.Tensor,
    memory: AttentionMemory,
) -> tuple[tf.Tensor, ...]:
    """Gradients of the arguments of `scan`, in their order."""
    steps, count, _ = dimensions(upstream)
    inputs, width = gate_kernel.shape
    units, encoded_units = tape.hiddens.shape[-1], tape.contexts.shape[-1]
    cells = Steps(
        LstmTape.of(tape.gates, tape.cells)
        if cell == "lstm"
        else GruTape.of(tf.split(tape.gates, 4, -1), shifted(tape.hiddens))
    )
    d_outputs = unstack(upstream)
    attention_backward = _attention_backward(tape, memory)
    to_inputs, to_hidden = transposed(gate_kernel[:, : 4 * units]), transposed(memory.weights.query)
    spare = tf.zeros([count, width - 4 * units], upstream.dtype)

    def body(t, d_hidden, d_state, d_context, d_sum, sums, gradients):
        d_hidden_out, d_context_out = tf.split(d_outputs.read(t), [units, encoded_units], -1)
        d_context += d_context_out
        of_attention, sums = attention_backward(t, d_context, d_sum, sums)
        d_hidden += d_hidden_out + tf.matmul(of_attention.query, to_hidden)[:, :units]
        d_gates, d_state, d_before = four_gate_backward(cells.at(t), d_hidden, d_state)
        values = (tf.concat([d_gates, spare], -1), d_context, *of_attention[:3])
        gradients = [array.write(t, value) for array, value in zip(gradients, values)]
        d_context, d_hidden = tf.split(
            tf.matmul(d_gates, to_inputs)[:, :inputs], [encoded_units, units], -1
        )
        return (
            t - 1, d_before + d_hidden, d_state, d_context, of_attention.attention_sum, sums,
            gradients,
        )  # fmt: skip

    shapes: list[list[int | None]] = [
        [None, width], [None, encoded_units], [None, memory.keys.shape[-1]],
        [None, None, None], [None, None],
    ]  # fmt: skip
    zeros = [
        tf.zeros([count, size], upstream.dtype)
        for size in (units, state_units(cell, units), encoded_units, dimensions(memory.encoded)[1])
    ]
    summed = (memory.weights.energy, memory.keys, memory.weights.filters)
    sums = _Sums(*(tf.zeros_like(value, tf.float32) for value in summed))
    gradients = [tf.TensorArray(upstream.dtype, steps, element_shape=shape) for shape in shapes]
    loop = (steps - 1, *zeros, sums, gradients)
    *_, sums, gradients = one_by_one(lambda t, *_: t >= 0, body, loop)
    sums = _Sums(*(tf.cast(value, upstream.dtype) for value in sums))
    d_gates, d_contexts, d_queries, d_energies, d_located = (g.stack() for g in gradients)
    d_energies = tf.reduce_sum(d_energies, [0, 2])[:, None, :, None]
    with tf.control_dependencies([d_gates]):  # Not earlier: they are as large as what they copy.
        before = tf.concat([shifted(tape.contexts), shifted(tape.hiddens)], -1)
    d_location = tf.zeros_like(memory.location)
    if memory.weights.filters.shape[0]:
        d_location = outer_sum(_attention_sums(tape.alignments, count), d_located)
    return (
        d_gates,
        outer_sum(before, d_gates),
        _d_encoded(tape.alignments, d_contexts),
        memory.weights.energy * (d_energies - sums.squares),
        d_location,
        outer_sum(tape.hiddens, d_queries),
        sums.energy,
        sums.filters,
    )
