"""Recurrent layers that train fast on a CPU.

Keras computes the input projection and the weight gradients step by step. Here both happen for all
steps at once, outside the loop, and the loop's gradient is written by hand; outputs and gradients
are those of `keras.layers.LSTM` and `keras.layers.GRU`; docs/decisions/0002 has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import keras
import tensorflow as tf

Cell = Literal["lstm", "gru"]
GATES = {"lstm": 4, "gru": 3}


def lstm_cell(gates: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One LSTM step from gate activations [..., 4H] (order i, f, g, o) and cell [..., H]."""
    i, f, g, o = tf.split(gates, 4, -1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(cell), cell


def gru_cell(projected: tf.Tensor, recurrent: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """One GRU step (reset after the product, as Keras) from its two projections [..., 3H]."""
    update_x, reset_x, candidate_x = tf.split(projected, 3, -1)
    update_h, reset_h, candidate_h = tf.split(recurrent, 3, -1)
    update = tf.sigmoid(update_x + update_h)
    candidate = tf.tanh(candidate_x + tf.sigmoid(reset_x + reset_h) * candidate_h)
    return update * hidden + (1.0 - update) * candidate


def _arrays(like: tf.Tensor, steps: tf.Tensor, widths: Sequence[int]) -> list[tf.TensorArray]:
    return [
        tf.TensorArray(like.dtype, size=steps, element_shape=[*like.shape[1:-1], width])
        for width in widths
    ]


def _zeros(projected: tf.Tensor, width: int) -> tf.Tensor:
    """Initial state [..., H] for projected [T, ..., G * H], static where the shape is."""
    if projected.shape[1:-1].is_fully_defined():
        return tf.zeros([*projected.shape[1:-1], width], projected.dtype)
    return tf.zeros(tf.concat([tf.shape(projected)[1:-1], [width]], 0), projected.dtype)


def _unstack(value: tf.Tensor, steps: tf.Tensor) -> tf.TensorArray:
    return tf.TensorArray(value.dtype, size=steps).unstack(value)


def _shifted(states: tf.Tensor) -> tf.Tensor:
    """The state before each step: zeros, then all but the last."""
    return tf.concat([tf.zeros_like(states[:1]), states[:-1]], 0)


@tf.custom_gradient
def lstm_scan(projected: tf.Tensor, recurrent_kernel: tf.Tensor):
    """Runs an LSTM over time from a zero state.

    Args:
      projected: [T, ..., 4H], inputs times kernel plus bias.
      recurrent_kernel: [..., H, 4H], with the leading dimensions of a stack of directions, if any.
    Returns:
      Hidden states [T, ..., H].
    """
    units = recurrent_kernel.shape[-2]
    steps = tf.shape(projected)[0]
    inputs = _unstack(projected, steps)
    zeros = _zeros(projected, units)

    def body(t, hidden, cell, hiddens, cells, gates):
        activations = inputs.read(t) + tf.matmul(hidden, recurrent_kernel)
        i, f, g, o = tf.split(activations, 4, -1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        cell = f * cell + i * g
        hidden = o * tf.tanh(cell)
        gates = gates.write(t, tf.concat([i, f, g, o], -1))
        return t + 1, hidden, cell, hiddens.write(t, hidden), cells.write(t, cell), gates

    arrays = _arrays(projected, steps, [units, units, 4 * units])
    results = tf.while_loop(lambda t, *_: t < steps, body, (0, zeros, zeros, *arrays))
    hiddens, cells, gates = (array.stack() for array in results[3:])

    def gradient(upstream):
        i, f, g, o = tf.split(gates, 4, -1)
        tanh_cells = tf.tanh(cells)
        # Every factor of the recursion that does not depend on it, for all steps at once.
        to_cell = o * (1 - tf.square(tanh_cells))
        to_output = tanh_cells * o * (1 - o)
        to_ifg = tf.concat([g * i * (1 - i), _shifted(cells) * f * (1 - f), i * (1 - g * g)], -1)
        factors = [_unstack(x, steps) for x in (upstream, to_cell, to_output, to_ifg, f)]

        def backward(t, d_hidden, d_cell, d_gates):
            d_out, k_cell, k_output, k_ifg, forget = (array.read(t) for array in factors)
            d_hidden += d_out
            d_cell += d_hidden * k_cell
            d_ifg = tf.concat([d_cell, d_cell, d_cell], -1) * k_ifg
            d_gate = tf.concat([d_ifg, d_hidden * k_output], -1)
            d_hidden = tf.matmul(d_gate, recurrent_kernel, transpose_b=True)
            return t - 1, d_hidden, d_cell * forget, d_gates.write(t, d_gate)

        array = _arrays(projected, steps, [4 * units])
        loop = tf.while_loop(lambda t, *_: t >= 0, backward, (steps - 1, zeros, zeros, *array))
        d_projected = loop[3].stack()
        return d_projected, _kernel_gradient(_shifted(hiddens), d_projected)

    return hiddens, gradient


@tf.custom_gradient
def gru_scan(projected: tf.Tensor, recurrent_kernel: tf.Tensor, recurrent_bias: tf.Tensor):
    """Runs a GRU over time from a zero state.

    Args:
      projected: [T, ..., 3H], inputs times kernel plus input bias (order update, reset, candidate).
      recurrent_kernel: [..., H, 3H].
      recurrent_bias: [..., 1, 3H].
    Returns:
      Hidden states [T, ..., H].
    """
    units = recurrent_kernel.shape[-2]
    steps = tf.shape(projected)[0]
    inputs = _unstack(projected, steps)
    zeros = _zeros(projected, units)

    def body(t, hidden, hiddens, recurrents):
        recurrent = tf.matmul(hidden, recurrent_kernel) + recurrent_bias
        hidden = gru_cell(inputs.read(t), recurrent, hidden)
        return t + 1, hidden, hiddens.write(t, hidden), recurrents.write(t, recurrent)

    arrays = _arrays(projected, steps, [units, 3 * units])
    results = tf.while_loop(lambda t, *_: t < steps, body, (0, zeros, *arrays))
    hiddens, recurrents = (array.stack() for array in results[2:])

    def gradient(upstream):
        before = _shifted(hiddens)
        update_x, reset_x, candidate_x = tf.split(projected, 3, -1)
        update_h, reset_h, candidate_h = tf.split(recurrents, 3, -1)
        update, reset = tf.sigmoid(update_x + update_h), tf.sigmoid(reset_x + reset_h)
        candidate = tf.tanh(candidate_x + reset * candidate_h)
        to_candidate = (1 - update) * (1 - tf.square(candidate))
        to_gates = tf.concat(
            [
                (before - candidate) * update * (1 - update),
                to_candidate * candidate_h * reset * (1 - reset),
                to_candidate * reset,
            ],
            -1,
        )
        factors = [_unstack(x, steps) for x in (upstream, to_gates, update)]

        def backward(t, d_hidden, d_hiddens):
            d_out, k_gates, keep = (array.read(t) for array in factors)
            d_hidden += d_out
            d_hiddens = d_hiddens.write(t, d_hidden)
            d_recurrent = tf.concat([d_hidden, d_hidden, d_hidden], -1) * k_gates
            d_hidden = d_hidden * keep + tf.matmul(d_recurrent, recurrent_kernel, transpose_b=True)
            return t - 1, d_hidden, d_hiddens

        array = _arrays(projected, steps, [units])
        loop = tf.while_loop(lambda t, *_: t >= 0, backward, (steps - 1, zeros, *array))
        d_hiddens = loop[2].stack()
        d_recurrents = tf.concat([d_hiddens, d_hiddens, d_hiddens], -1) * to_gates
        d_projected = tf.concat([d_recurrents[..., : 2 * units], d_hiddens * to_candidate], -1)
        d_bias = tf.reduce_sum(tf.reduce_sum(d_recurrents, 0), -2, keepdims=True)
        return d_projected, _kernel_gradient(before, d_recurrents), d_bias

    return hiddens, gradient


def project(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """inputs [..., F] times kernel [F, G] as one product.

    `tf.matmul` would do one small product per leading index, and sum as many kernel gradients.
    """
    shape = tf.concat([tf.shape(inputs)[:-1], [kernel.shape[-1]]], 0)
    product = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
    product = tf.reshape(product, shape)
    product.set_shape([*inputs.shape[:-1], kernel.shape[-1]])
    return product


def _kernel_gradient(states: tf.Tensor, d_gates: tf.Tensor) -> tf.Tensor:
    """Sum over time and batch of state (x) gate gradient, as one product per direction."""
    if states.shape.rank == 3:
        states, d_gates = (tf.reshape(x, [-1, x.shape[-1]]) for x in (states, d_gates))
        return tf.matmul(states, d_gates, transpose_a=True)
    return tf.einsum("tdbh,tdbg->dhg", states, d_gates)


def forget_gate_bias(cell: Cell) -> Callable:
    """Initialiser of the bias: one for an LSTM's forget gate, as Keras, and zero elsewhere."""

    def initialise(shape, dtype=None):
        bias = tf.zeros(shape, dtype)
        if cell == "gru":
            return bias
        units = shape[-1] // 4
        return tf.concat([bias[:units], tf.ones([units], dtype), bias[2 * units :]], 0)

    return initialise


@keras.saving.register_keras_serializable("tfkd")
class BidirectionalRNN(keras.layers.Layer):
    """A bidirectional LSTM or GRU over utterances of different lengths.

    The backward direction starts at each utterance's own end, so padding changes nothing.

    Args:
      cell: "lstm" or "gru".
      units: size of each direction; the output has twice as many features.
    """

    def __init__(self, cell: Cell, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell, self.units = cell, units

    def build(self, input_shape) -> None:
        width = GATES[self.cell] * self.units
        self.directions = [
            self._add_direction(name, input_shape[-1], width) for name in ("forward", "backward")
        ]
        self.built = True

    def _add_direction(self, name: str, inputs: int, width: int) -> list[keras.Variable]:
        weights = [
            self.add_weight(name=f"{name}_kernel", shape=(inputs, width)),
            self.add_weight(
                name=f"{name}_recurrent_kernel",
                shape=(self.units, width),
                initializer=keras.initializers.Orthogonal(),
            ),
            self.add_weight(
                name=f"{name}_bias", shape=(width,), initializer=forget_gate_bias(self.cell)
            ),
        ]
        if self.cell == "gru":
            weights.append(
                self.add_weight(name=f"{name}_recurrent_bias", shape=(width,), initializer="zeros")
            )
        return weights

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Maps inputs [B, T, F] and lengths [B] to [B, T, 2H], zero beyond each length."""
        forward = self._run(inputs, self.directions[0])
        reversed_inputs = tf.reverse_sequence(inputs, lengths, 1)
        backward = tf.reverse_sequence(self._run(reversed_inputs, self.directions[1]), lengths, 1)
        inside = tf.sequence_mask(lengths, tf.shape(inputs)[1], dtype=inputs.dtype)
        return tf.concat([forward, backward], -1) * tf.expand_dims(inside, -1)

    def _run(self, inputs: tf.Tensor, weights: Sequence[keras.Variable]) -> tf.Tensor:
        kernel, recurrent_kernel, bias, *recurrent_bias = map(tf.convert_to_tensor, weights)
        projected = project(tf.transpose(inputs, [1, 0, 2]), kernel) + bias
        if self.cell == "lstm":
            states = lstm_scan(projected, recurrent_kernel)
        else:
            states = gru_scan(projected, recurrent_kernel, tf.expand_dims(recurrent_bias[0], 0))
        return tf.transpose(states, [1, 0, 2])

    def get_config(self) -> dict:
        return {**super().get_config(), "cell": self.cell, "units": self.units}
