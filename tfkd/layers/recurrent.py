"""Recurrent layers that train fast on a CPU.

Keras computes the input projection and the weight gradients step by step. Here both happen for all
steps at once, outside the loop, and the loop's gradient is written by hand; outputs and gradients
are those of `keras.layers.LSTM` and `keras.layers.GRU`; docs/decisions/0002 has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.layers.cells import (
    GATES,
    Cell,
    GruTape,
    LstmTape,
    forget_gate_bias,
    gru_gates,
    gru_state,
    lstm_gates,
    lstm_states,
    shifted,
)
from tfkd.layers.products import (
    outer_sum,
    project,
    rows_of,
    transposed,
    widened_at_turn,
)


def arrays(like: tf.Tensor, steps: tf.Tensor, widths: Sequence[int]) -> list[tf.TensorArray]:
    """Empty arrays for `steps` values [B, width] each, B being that of like [B, ...]."""
    return [
        tf.TensorArray(like.dtype, size=steps, element_shape=[like.shape[0], width])
        for width in widths
    ]


def unstack(value: tf.Tensor) -> tf.TensorArray:
    """value [T, ...] as an array of T values."""
    return tf.TensorArray(value.dtype, size=tf.shape(value)[0]).unstack(value)


def _zeros(projected: tf.Tensor, width: int) -> tf.Tensor:
    """Initial state [B, width] for projected [B, T, *], static where the shape is."""
    batch = projected.shape[0]
    return tf.zeros([tf.shape(projected)[0] if batch is None else batch, width], projected.dtype)


class Steps:
    """The values [T, ...] of a tape, read step by step inside a loop."""

    def __init__(self, tape: LstmTape | GruTape) -> None:
        self._kind = type(tape)
        self._arrays = [unstack(values) for values in tape]

    def at(self, step: tf.Tensor):
        """The tape of one step."""
        return self._kind(*(array.read(step) for array in self._arrays))


class Order(NamedTuple):
    """How one direction of time goes through a batch."""

    by_step: tf.Tensor  # [T, B]: which row of [B, T] is read at a step
    by_utterance: tf.Tensor  # [B, T]: which row of [T, B] is a frame's

    @classmethod
    def forward(cls, sequence: tf.Tensor) -> Order:
        """From the first frame of sequence [B, T, ...] to the last."""
        return cls._of(_frames(sequence))

    @classmethod
    def backward(cls, sequence: tf.Tensor, lengths: tf.Tensor) -> Order:
        """From the last frame of each utterance, lengths [B], to its first; then the padding."""
        time, lengths = _frames(sequence), tf.expand_dims(lengths, 1)
        return cls._of(tf.where(time < lengths, lengths - 1 - time, time))

    @classmethod
    def _of(cls, time: tf.Tensor) -> Order:
        """From the frame that each utterance reads at each step, [B, T]; its own inverse."""
        batch, steps = time.shape[0] or tf.shape(time)[0], tf.shape(time)[1]
        utterance = tf.expand_dims(tf.range(batch), 1)
        return cls(tf.transpose(utterance * steps + time), time * batch + utterance)


def _frames(sequence: tf.Tensor) -> tf.Tensor:
    """The number of each frame in its utterance, [B, T]."""
    batch, steps = sequence.shape[0] or tf.shape(sequence)[0], tf.shape(sequence)[1]
    return tf.tile(tf.expand_dims(tf.range(steps), 0), [batch, 1])


def _look_up(sequence: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Rows of sequence [X, Y, F] by their number in it.

    Transposes and reverses in one go, for a fraction of what TensorFlow's operations for these
    take.
    """
    return tf.gather(rows_of(sequence), places)


@tf.custom_gradient
def lstm_scan(
    projected: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    by_step: tf.Tensor,
    by_utterance: tf.Tensor,
):
    """Runs an LSTM over time from a zero state.

    Args:
      projected: [B, T, 4H], inputs times kernel plus bias; wider if the kernel was widened.
      recurrent_kernel: [H, 4H], as wide as `projected`.
      by_step, by_utterance: the `Order` in which it goes through them.
    Returns:
      Hidden states [B, T, H].
    """
    units, width = recurrent_kernel.shape
    steps, rows = tf.shape(projected)[1], rows_of(projected)
    zeros = _zeros(projected, units)

    def body(t, hidden, cell, hiddens, cells, gates):
        inputs = tf.gather(rows, by_step[t])
        now = lstm_gates(inputs + tf.matmul(hidden, recurrent_kernel), units)
        hidden, cell = lstm_states(now, cell)
        gates = gates.write(t, tf.concat(now, -1))
        return t + 1, hidden, cell, hiddens.write(t, hidden), cells.write(t, cell), gates

    loop = (0, zeros, zeros, *arrays(projected, steps, [units, units, 4 * units]))
    results = tf.while_loop(lambda t, *_: t < steps, body, loop)
    hiddens, cells, gates = (array.stack() for array in results[3:])

    def gradient(upstream):
        with tf.control_dependencies([upstream]):  # Not earlier: it is as large as the gates.
            tape = Steps(LstmTape.of(gates, cells))
        d_outputs = rows_of(upstream)
        kernel = transposed(recurrent_kernel[:, : 4 * units])
        spare = _zeros(projected, width - 4 * units)

        def backward(t, d_hidden, d_cell, d_gates):
            d_hidden += tf.gather(d_outputs, by_step[t])
            d_gate, d_cell = tape.at(t).step(d_hidden, d_cell)
            d_gates = d_gates.write(t, tf.concat([d_gate, spare], -1))
            return t - 1, tf.matmul(d_gate, kernel)[:, :units], d_cell, d_gates

        loop = (steps - 1, zeros, zeros, *arrays(projected, steps, [width]))
        *_, d_gates = tf.while_loop(lambda t, *_: t >= 0, backward, loop)
        d_gates = d_gates.stack()
        d_kernel = outer_sum(shifted(hiddens), d_gates)
        return _look_up(d_gates, by_utterance), d_kernel, None, None

    return _look_up(hiddens, by_utterance), gradient


@tf.custom_gradient
def gru_scan(
    projected: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    by_step: tf.Tensor,
    by_utterance: tf.Tensor,
):
    """Runs a GRU over time from a zero state.

    Args:
      projected: [B, T, 3H], inputs times kernel plus input bias (order update, reset, candidate);
        wider if the kernel was widened.
      recurrent_kernel: [H, 3H], as wide as `projected`.
      recurrent_bias: [3H], as wide as `projected`.
      by_step, by_utterance: the `Order` in which it goes through them.
    Returns:
      Hidden states [B, T, H].
    """
    units, width = recurrent_kernel.shape
    steps, rows = tf.shape(projected)[1], rows_of(projected)
    zeros = _zeros(projected, units)

    def body(t, hidden, hiddens, recurrents):
        recurrent = tf.matmul(hidden, recurrent_kernel) + recurrent_bias
        hidden = gru_state(gru_gates(tf.gather(rows, by_step[t]), recurrent, units), hidden)
        return t + 1, hidden, hiddens.write(t, hidden), recurrents.write(t, recurrent)

    loop = (0, zeros, *arrays(projected, steps, [units, width]))
    results = tf.while_loop(lambda t, *_: t < steps, body, loop)
    hiddens, recurrents = (array.stack() for array in results[2:])

    def gradient(upstream):
        before = shifted(hiddens)
        with tf.control_dependencies([upstream]):  # Not earlier: it is as large as the gates.
            inputs = _look_up(projected, by_step)
            tape = Steps(GruTape.of(gru_gates(inputs, recurrents, units), before))
        d_outputs = rows_of(upstream)
        kernel = transposed(recurrent_kernel[:, : 3 * units])
        spare = _zeros(projected, width - 3 * units)

        def backward(t, d_hidden, d_projections, d_recurrents):
            d_hidden += tf.gather(d_outputs, by_step[t])
            d_projected, d_recurrent, d_before = tape.at(t).step(d_hidden)
            d_projections = d_projections.write(t, tf.concat([d_projected, spare], -1))
            d_recurrents = d_recurrents.write(t, tf.concat([d_recurrent, spare], -1))
            d_hidden = d_before + tf.matmul(d_recurrent, kernel)[:, :units]
            return t - 1, d_hidden, d_projections, d_recurrents

        loop = (steps - 1, zeros, *arrays(projected, steps, [width, width]))
        *_, d_projections, d_recurrents = tf.while_loop(lambda t, *_: t >= 0, backward, loop)
        d_recurrents = d_recurrents.stack()
        d_projected = _look_up(d_projections.stack(), by_utterance)
        d_kernel, d_bias = outer_sum(before, d_recurrents), tf.reduce_sum(d_recurrents, [0, 1])
        return d_projected, d_kernel, d_bias, None, None

    return _look_up(hiddens, by_utterance), gradient


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
        inside = tf.sequence_mask(lengths, tf.shape(inputs)[1], dtype=inputs.dtype)
        outputs: list[tf.Tensor] = []
        for weights, order in zip(
            self.directions, (Order.forward(inputs), Order.backward(inputs, lengths))
        ):
            # One after the other, so that the projections of only one are held.
            with tf.control_dependencies(outputs):
                waiting = tf.identity(inputs)
            outputs.append(self._run(waiting, order, weights))
        return tf.concat(outputs, -1) * tf.expand_dims(inside, -1)

    def _run(self, inputs: tf.Tensor, order: Order, weights: Sequence[keras.Variable]) -> tf.Tensor:
        """Hidden states [B, T, H] of one direction."""
        kernel, recurrent_kernel, *biases = map(tf.convert_to_tensor, weights)
        if inputs.shape[0] != 1:  # Products with a single row, as on a device, gain nothing.
            weights = kernel, recurrent_kernel, *biases
            kernel, recurrent_kernel, *biases = widened_at_turn(weights, inputs)
        projected = project(inputs, kernel) + biases[0]
        scan = lstm_scan if self.cell == "lstm" else gru_scan
        return scan(projected, recurrent_kernel, *biases[1:], *order)

    def get_config(self) -> dict:
        return {**super().get_config(), "cell": self.cell, "units": self.units}
