"""Teacher forcing of the attention decoder, with a custom gradient.

The loops compute only what depends on the recurrence; the gradient of each kernel is one product
after the backward loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfkd.layers.attention import (
    LIMIT,
    AttentionMemory,
    AttentionWeights,
    attend,
    hypothesis_terms,
    limited,
    odds_of,
    tanh_activations,
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
from tfkd.layers.matmul import outer_sum, project, rows_of, transposed
from tfkd.layers.recurrent import Steps, sequential_while_loop, unstack
from tfkd.layers.static_shape import dimensions


class _Tape(NamedTuple):
    """Values of the U forward steps that the backward loop reads."""

    hiddens: tf.Tensor  # [U, N, H]
    contexts: tf.Tensor  # [U, N, D]
    gates: tf.Tensor  # [U, N, 4H], activated
    cells: tf.Tensor  # [U, N, H]; [U, N, 0] of a GRU
    alignments: tf.Tensor  # [U, B, K, S]
    located: tf.Tensor  # [U, N, S * F]


class _Sums(NamedTuple):
    """Gradients that are summed over the steps inside the backward loop, in float32."""

    energy: tf.Tensor  # [A]
    keys: tf.Tensor  # [B, 1, S, A]
    filters: tf.Tensor  # [F, A]


class _AttentionGradients(NamedTuple):
    """Gradients of one step of attention."""

    query: tf.Tensor  # [N, A]
    located: tf.Tensor  # [N, S * F]
    attention_sum: tf.Tensor  # [N, S]


class _Activations:
    """The activations y of the energies: y = tanh(query + key), or an equivalent form by odds.

    Energies are w . y, where

        tanh:   y = tanh(z),       dy/dz = 1 - y^2,       w = v
        odds:   y = x / (1 + x),   dy/dz = 2 (y - y^2),   w = 2 v

    v is `AttentionWeights.energy`, z = query + key, and x = exp(2 z); see `odds_of`.
    """

    def __init__(self, memory: AttentionMemory) -> None:
        self._weights, self._are_shares = memory.weights, memory.odds is not None
        self._keys = odds_of(memory.keys) if self._are_shares else memory.keys
        # The ratio of w to v, and of dy/dz to `slope`.
        self.factor = 2.0 if self._are_shares else 1.0
        self.energy = self.factor * memory.weights.energy
        self.to_inputs = self.factor * self.energy  # from slopes times gradients of energies to z's

    def of(self, queries: tf.Tensor, located: tf.Tensor) -> tf.Tensor:
        """y [B, K, S, A] of queries [B, K, A], `limited`, and what the location filters see."""
        if self._are_shares:
            return tf.nn.softsign(self._keys * odds_of(tf.expand_dims(queries, 2)))
        return tanh_activations(self._keys, *hypothesis_terms(queries, located, self._weights))

    def slope(self, y: tf.Tensor) -> tf.Tensor:
        """dy/dz, but for `factor`."""
        return (y if self._are_shares else 1.0) - tf.square(y)

    def energies(self, queries: tf.Tensor, located: tf.Tensor) -> tf.Tensor:
        """Energies [B, K, S]; see `attend`."""
        y = self.of(queries, located)
        return tf.reshape(tf.linalg.matvec(rows_of(y), self.energy), dimensions(y)[:3])


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
        inside = memory._replace(
            encoded=encoded, keys=keys, location=location, weights=AttentionWeights(*weights)
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
    inputs, energies_of = unstack(token_gates), _Activations(memory).energies

    def body(t, hidden, state, context, attention_sum, tape):
        products = tf.matmul(tf.concat([context, hidden], -1), gate_kernel)
        hidden, state, gates = four_gate_step(cell, inputs.read(t) + products, hidden, state)
        earlier = tf.cast(attention_sum, hidden.dtype)
        context, alignment, located = attend(hidden, earlier, memory, energies_of)
        values = (hidden, context, gates, state, alignment, located)
        tape = [array.write(t, value) for array, value in zip(tape, values, strict=True)]
        alignment = tf.cast(alignment, tf.float32)
        attention_sum += tf.reshape(alignment, tf.shape(attention_sum))
        return t + 1, hidden, state, context, attention_sum, tape

    shapes: list[list[int | None]] = [
        [None, units], [None, encoded_units], [None, 4 * units],
        [None, state_units(cell, units)], [None, None, None], [None, None],
    ]  # fmt: skip
    zeros = [
        tf.zeros([count, width], token_gates.dtype)
        for width in (units, state_units(cell, units), encoded_units)
    ]
    # The sum of alignments is float32 at any precision, because it adds many small numbers.
    zeros.append(tf.zeros([count, frames]))
    tape = [tf.TensorArray(token_gates.dtype, steps, element_shape=shape) for shape in shapes]
    *_, tape = sequential_while_loop(lambda t, *_: t < steps, body, (0, *zeros, tape))
    return _Tape._make(array.stack() for array in tape)


def _attention_backward(
    tape: _Tape, memory: AttentionMemory, activations: _Activations
) -> Callable[..., tuple[_AttentionGradients, _Sums]]:
    """Makes the gradient of `attend` at one step, from those of its context and of later steps."""
    alignments, located = unstack(tape.alignments), unstack(tape.located)
    steps, batch, hypotheses, _ = dimensions(tape.alignments)
    filters = memory.weights.filters
    num_filters, units = filters.shape
    queries = project(tape.hiddens, memory.weights.query)
    queries = tf.reshape(queries, [steps, batch, hypotheses, units])
    is_within = unstack(tf.cast(tf.abs(queries) <= LIMIT, queries.dtype))
    queries = unstack(limited(queries))
    to_alignment = tf.transpose(memory.encoded, [0, 2, 1])
    to_located, to_sum = tf.transpose(filters), tf.transpose(memory.location)

    def through_filters(by_place, d_inputs, d_sum):
        d_inputs = tf.reshape(activations.to_inputs * d_inputs, [-1, units])
        by_place = tf.reshape(by_place, [-1, num_filters])
        d_located = tf.reshape(tf.matmul(d_inputs, to_located), [tf.shape(d_sum)[0], -1])
        d_filters = tf.matmul(by_place, d_inputs, transpose_a=True)
        return d_located, d_sum + tf.matmul(d_located, to_sum), d_filters

    def backward(t, d_context, d_sum, sums):
        by_utterance = [tf.shape(memory.encoded)[0], -1, memory.encoded.shape[-1]]
        d_alignment = tf.matmul(tf.reshape(d_context, by_utterance), to_alignment)
        d_alignment += tf.reshape(d_sum, tf.shape(d_alignment))
        alignment, by_place = alignments.read(t), located.read(t)
        weighted = alignment * d_alignment
        d_energies = weighted - alignment * tf.reduce_sum(weighted, -1, keepdims=True)
        # Recompute the activations; stored, they would be the largest part of a training's memory.
        y = activations.of(queries.read(t), by_place)
        d_energy = tf.matmul(tf.reshape(d_energies, [1, -1]), rows_of(y))
        slope = activations.slope(y)
        d_inputs = slope * tf.expand_dims(d_energies, -1)
        d_query = tf.squeeze(tf.matmul(tf.expand_dims(d_energies, 2), slope), 2)
        d_query *= activations.to_inputs * is_within.read(t)
        d_located, d_filters = tf.zeros([tf.shape(d_sum)[0], 0], d_sum.dtype), 0.0
        if num_filters:
            d_located, d_sum, d_filters = through_filters(by_place, d_inputs, d_sum)
        sums = _Sums(
            sums.energy + tf.cast(d_energy[0], tf.float32),
            sums.keys + tf.cast(tf.reduce_sum(d_inputs, 1, keepdims=True), tf.float32),
            sums.filters + tf.cast(d_filters, tf.float32),
        )
        return _AttentionGradients(tf.reshape(d_query, [-1, units]), d_located, d_sum), sums

    return backward


def _attention_sums(alignments: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Sums the alignments [U, B, K, S] of the steps before each step, [U, N, S]."""
    sums = tf.cumsum(tf.cast(alignments, tf.float32), exclusive=True)
    steps, *_, frames = dimensions(sums)
    return tf.cast(tf.reshape(sums, [steps, count, frames]), alignments.dtype)


def _d_encoded(alignments: tf.Tensor, d_contexts: tf.Tensor) -> tf.Tensor:
    """Computes the gradient [B, S, D] of the encodings from those of the contexts [U, N, D]."""
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
    """Computes the gradients of the arguments of `scan`, in their order."""
    steps, count, _ = dimensions(upstream)
    inputs, width = gate_kernel.shape
    units, encoded_units = tape.hiddens.shape[-1], tape.contexts.shape[-1]
    cells = Steps(
        LstmTape.of(tape.gates, tape.cells)
        if cell == "lstm"
        else GruTape.of(tf.split(tape.gates, 4, -1), shifted(tape.hiddens))
    )
    d_outputs = unstack(upstream)
    activations = _Activations(memory)
    attention_backward = _attention_backward(tape, memory, activations)
    to_inputs, to_hidden = transposed(gate_kernel[:, : 4 * units]), transposed(memory.weights.query)
    spare = tf.zeros([count, width - 4 * units], upstream.dtype)

    def body(t, d_hidden, d_state, d_context, d_sum, sums, gradients):
        d_hidden_out, d_context_out = tf.split(d_outputs.read(t), [units, encoded_units], -1)
        d_context += d_context_out
        attention_gradients, sums = attention_backward(t, d_context, d_sum, sums)
        d_hidden += d_hidden_out + tf.matmul(attention_gradients.query, to_hidden)[:, :units]
        d_gates, d_state, d_before = four_gate_backward(cells.at(t), d_hidden, d_state)
        values = (tf.concat([d_gates, spare], -1), d_context, *attention_gradients[:2])
        gradients = [array.write(t, value) for array, value in zip(gradients, values, strict=True)]
        d_context, d_hidden = tf.split(
            tf.matmul(d_gates, to_inputs)[:, :inputs], [encoded_units, units], -1
        )
        return (
            t - 1, d_before + d_hidden, d_state, d_context, attention_gradients.attention_sum, sums,
            gradients,
        )  # fmt: skip

    shapes: list[list[int | None]] = [
        [None, width], [None, encoded_units], [None, memory.keys.shape[-1]], [None, None],
    ]  # fmt: skip
    zeros = [
        tf.zeros([count, size], upstream.dtype)
        for size in (units, state_units(cell, units), encoded_units, dimensions(memory.encoded)[1])
    ]
    summed = (memory.weights.energy, memory.keys, memory.weights.filters)
    sums = _Sums(*(tf.zeros_like(value, tf.float32) for value in summed))
    gradients = [tf.TensorArray(upstream.dtype, steps, element_shape=shape) for shape in shapes]
    loop = (steps - 1, *zeros, sums, gradients)
    *_, sums, gradients = sequential_while_loop(lambda t, *_: t >= 0, body, loop)
    sums = _Sums(*(tf.cast(value, upstream.dtype) for value in sums))
    d_gates, d_contexts, d_queries, d_located = (g.stack() for g in gradients)
    # Delay these copies: made earlier, they would raise peak memory.
    with tf.control_dependencies([d_gates]):
        before = tf.concat([shifted(tape.contexts), shifted(tape.hiddens)], -1)
    d_location = tf.zeros_like(memory.location)
    if memory.weights.filters.shape[0]:
        d_location = outer_sum(_attention_sums(tape.alignments, count), d_located)
    return (
        d_gates,
        outer_sum(before, d_gates),
        _d_encoded(tape.alignments, d_contexts),
        activations.to_inputs * sums.keys,
        d_location,
        outer_sum(tape.hiddens, d_queries),
        activations.factor * sums.energy,
        sums.filters,
    )
