"""One step of an LSTM or a GRU, and its gradient.

`tfkd.layers.recurrent` and `tfkd.layers.attention_scan` run cells over time; decoders and language
models run them step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import tensorflow as tf

Cell = Literal["lstm", "gru"]
GATES = {"lstm": 4, "gru": 3}


def lstm_gates(inputs: tf.Tensor, units: int) -> list[tf.Tensor]:
    """Computes input, forget, candidate and output gate [..., H] from inputs [..., 4H or more]."""
    i, f, g, o = split_gates(inputs, 4, units)
    return [tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)]


def lstm_states(gates: Sequence[tf.Tensor], cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the next hidden state and cell."""
    i, f, g, o = gates
    cell = f * cell + i * g
    return o * tf.tanh(cell), cell


def gru_gates(projected: tf.Tensor, recurrent: tf.Tensor, units: int) -> list[tf.Tensor]:
    """Computes update and reset gate, candidate and its recurrent input, each [..., H].

    The reset gate is applied after the recurrent product, as in Keras.

    Args:
      projected, recurrent: contributions of input and state to the gates, [..., 3H or more].
    """
    update_x, reset_x, candidate_x = split_gates(projected, 3, units)
    update_h, reset_h, candidate_h = split_gates(recurrent, 3, units)
    update, reset = tf.sigmoid(update_x + update_h), tf.sigmoid(reset_x + reset_h)
    return [update, reset, tf.tanh(candidate_x + reset * candidate_h), candidate_h]


def gru_state(gates: Sequence[tf.Tensor], hidden: tf.Tensor) -> tf.Tensor:
    """Computes the next hidden state."""
    update, _, candidate, _ = gates
    return update * hidden + (1.0 - update) * candidate


def shifted(states: tf.Tensor) -> tf.Tensor:
    """Shifts states [T, ...] by one step: zeros, then all but the last."""
    return tf.concat([tf.zeros_like(states[:1]), states[:-1]], 0)


def split_gates(gates: tf.Tensor, count: int, units: int) -> list[tf.Tensor]:
    """Splits `count` gates of `units` each; ignores the columns that `matmul.widened` added."""
    spare = gates.shape[-1] - count * units
    return tf.split(gates, [units] * count + ([spare] if spare else []), -1)[:count]


class LstmTape(NamedTuple):
    """Values of an LSTM's steps that its backward recursion reads, [T, B, *]."""

    to_cell: tf.Tensor
    to_gates: tf.Tensor
    forget: tf.Tensor

    @classmethod
    def of(cls, gates: tf.Tensor, cells: tf.Tensor) -> LstmTape:
        """Computes the tape from activated gates [T, B, 4H] and cells [T, B, H]."""
        i, f, g, o = tf.split(gates, 4, -1)
        tanh_cells = tf.tanh(cells)
        to_gates = [
            g * i * (1 - i),
            shifted(cells) * f * (1 - f),
            i * (1 - tf.square(g)),
            tanh_cells * o * (1 - o),
        ]
        return cls(o * (1 - tf.square(tanh_cells)), tf.concat(to_gates, -1), f)

    def step(self, d_hidden: tf.Tensor, d_cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the gradients of the gates' inputs [B, 4H] and of the earlier cell [B, H]."""
        d_cell += d_hidden * self.to_cell
        d_gates = tf.concat([d_cell, d_cell, d_cell, d_hidden], -1) * self.to_gates
        return d_gates, d_cell * self.forget


class GruTape(NamedTuple):
    """Values of a GRU's steps that its backward recursion reads, [T, B, *]."""

    to_recurrent: tf.Tensor
    to_candidate: tf.Tensor
    update: tf.Tensor

    @classmethod
    def of(cls, gates: Sequence[tf.Tensor], before: tf.Tensor) -> GruTape:
        """Computes the tape from the result of `gru_gates` and the states before each step."""
        update, reset, candidate, candidate_h = gates
        to_candidate = (1 - update) * (1 - tf.square(candidate))
        to_recurrent = [
            (before - candidate) * update * (1 - update),
            to_candidate * candidate_h * reset * (1 - reset),
            to_candidate * reset,
        ]
        return cls(tf.concat(to_recurrent, -1), to_candidate, update)

    def step(self, d_hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes the gradients of both projections [B, 3H] and of the earlier state [B, H]."""
        d_recurrent = tf.concat([d_hidden, d_hidden, d_hidden], -1) * self.to_recurrent
        of_gates = d_recurrent[:, : -d_hidden.shape[-1]]
        d_projected = tf.concat([of_gates, d_hidden * self.to_candidate], -1)
        return d_projected, d_recurrent, d_hidden * self.update


def state_units(cell: Cell, units: int) -> int:
    """Returns the size of the state that a cell has in addition to its hidden state."""
    return units if cell == "lstm" else 0


def four_gate_step(
    cell: Cell, inputs: tf.Tensor, hidden: tf.Tensor, state: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes one step of a cell whose input and state are projected by one product.

    Args:
      inputs: [N, 4H or more], the inputs of an LSTM's gates; for a GRU those of update, reset,
        candidate from the input, and candidate from the state.
      hidden: [N, H].
      state: the LSTM's cell [N, H]; [N, 0] for a GRU.
    Returns:
      Next hidden state, next state, and the gates [N, 4H].
    """
    units = hidden.shape[-1]
    if cell == "lstm":
        gates = lstm_gates(inputs, units)
        hidden, state = lstm_states(gates, state)
    else:
        update, reset, candidate_x, candidate_h = split_gates(inputs, 4, units)
        update, reset = tf.sigmoid(update), tf.sigmoid(reset)
        gates = [update, reset, tf.tanh(candidate_x + reset * candidate_h), candidate_h]
        hidden = gru_state(gates, hidden)
    return hidden, state, tf.concat(gates, -1)


def four_gate_backward(
    tape: LstmTape | GruTape, d_hidden: tf.Tensor, d_state: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes the gradients of `four_gate_step`'s inputs [N, 4H], state and hidden state.

    The gradient of the hidden state leaves out its way through `inputs`.
    """
    if isinstance(tape, LstmTape):
        return *tape.step(d_hidden, d_state), tf.zeros_like(d_hidden)
    d_projected, d_recurrent, d_before = tape.step(d_hidden)
    d_inputs = tf.concat([d_projected, d_recurrent[:, -d_hidden.shape[-1] :]], -1)
    return d_inputs, d_state, d_before


def forget_gate_bias(cell: Cell) -> Callable:
    """Makes the initialiser of a bias: one for an LSTM's forget gate, as in Keras, else zero."""

    def initialise(shape, dtype=None):
        bias = tf.zeros(shape, dtype)
        if cell == "gru":
            return bias
        units = shape[-1] // 4
        return tf.concat([bias[:units], tf.ones([units], dtype), bias[2 * units :]], 0)

    return initialise
