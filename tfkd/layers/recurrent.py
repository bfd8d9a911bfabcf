"""Recurrent layers that train fast on a CPU.

Keras computes input projections and weight gradients step by step. Here they are computed for all
steps at once, outside of the loop (input projections unless the inputs are narrow), and the loop
has a custom gradient. Outputs and gradients are those of `keras.layers.LSTM` and `keras.layers.GRU`
(docs/decisions/0002-recurrent-layers.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.layers.cells import (
    Cell,
    GruTape,
    LstmTape,
    gru_gates,
    gru_state,
    lstm_gates,
    lstm_states,
    shifted,
)
from tfkd.layers.low_rank import (
    Kernel,
    as_tensors,
    gradients_of_factors,
    merged,
    size_of,
    times,
)
from tfkd.layers.matmul import (
    outer_sum,
    project,
    rows_of,
    sum_of_rows,
    transposed,
    widen_after,
)
from tfkd.layers.recurrent_cell import add_cell_weights
from tfkd.layers.static_shape import dimensions

# A step projects its own inputs if they are at least this much narrower than the gates.
_NARROW = 4


def arrays(like: tf.Tensor, steps: tf.Tensor, widths: Sequence[int]) -> list[tf.TensorArray]:
    """Makes an array for `steps` values [B, width] for each width; B is that of like [B, ...]."""
    return [
        tf.TensorArray(like.dtype, size=steps, element_shape=[like.shape[0], width])
        for width in widths
    ]


def is_tape_kept(inputs: tf.Tensor) -> bool:
    """Whether a scan keeps what its gradient reads; otherwise the gradient runs the scan again.

    The single utterance of a device needs no gradient, and TFLite would copy the tape at each step.
    """
    return inputs.shape[0] != 1


def unstack(value: tf.Tensor) -> tf.TensorArray:
    """Converts value [T, ...] to an array of T values."""
    return tf.TensorArray(value.dtype, size=dimensions(value)[0]).unstack(value)


def sequential_while_loop(condition: Callable, body: Callable, variables: Sequence) -> Sequence:
    """Runs a `tf.while_loop` whose steps do not overlap.

    By default TensorFlow runs up to ten steps ahead and holds their results, which costs memory.
    """
    return tf.while_loop(condition, body, variables, parallel_iterations=1)


class Steps:
    """The values [T, ...] of a tape, read step by step inside a loop."""

    def __init__(self, tape: LstmTape | GruTape) -> None:
        self._kind = type(tape)
        self._arrays = [unstack(values) for values in tape]

    def at(self, step: tf.Tensor):
        """The tape of one step."""
        return self._kind(*(array.read(step) for array in self._arrays))


class Order(NamedTuple):
    """The order in which a direction reads the frames of a batch."""

    by_step: tf.Tensor  # [T, B]: the row of [B, T] that is read at each step
    by_utterance: tf.Tensor  # [B, T]: the row of [T, B] that belongs to each frame

    @classmethod
    def forward(cls, sequence: tf.Tensor) -> Order:
        """Reads sequence [B, T, ...] from the first frame to the last."""
        batch, steps, *_ = dimensions(sequence)
        return cls._of(tf.expand_dims(tf.range(steps), 0), batch, steps)

    @classmethod
    def backward(cls, sequence: tf.Tensor, lengths: tf.Tensor) -> Order:
        """Reads each utterance from its last frame, by lengths [B], to its first; then padding."""
        batch, steps, *_ = dimensions(sequence)
        frame, last = tf.expand_dims(tf.range(steps), 0), tf.expand_dims(lengths - 1, 1)
        return cls._of(tf.where(frame <= last, last - frame, frame), batch, steps)

    @classmethod
    def _of(cls, frame: tf.Tensor, batch: int | tf.Tensor, steps: int | tf.Tensor) -> Order:
        """Makes the order from the frame that is read at each step, [B, T] or [1, T] for all.

        The order of frames is its own inverse.
        """
        utterance = tf.expand_dims(tf.range(batch), 1)
        return cls(tf.transpose(utterance * steps + frame), frame * batch + utterance)


def zero_beyond(sequence: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Sets sequence [B, T, F] to zero beyond lengths [B]."""
    inside = tf.range(dimensions(sequence)[1]) < tf.expand_dims(lengths, 1)
    return sequence * tf.expand_dims(tf.cast(inside, sequence.dtype), -1)


def _look_up(sequence: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Gathers rows of sequence [X, Y, F] by number, to transpose and reverse in one operation.

    It takes a fraction of the time of TensorFlow's operations for these.
    """
    return tf.gather(rows_of(sequence), places)


class _Projection:
    """Projects the inputs [B, T, F] of a layer to its gates, in the order of its steps.

    The projections of all steps are one product, and the largest tensor of an encoder. If inputs
    are much narrower than the gates, each step projects its own inputs instead, which takes a
    fraction of the memory and no more time (docs/decisions/0002-recurrent-layers.md).
    """

    def __init__(
        self, inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, by_step: tf.Tensor
    ) -> None:
        self._rows, self._kernel, self._bias = rows_of(inputs), kernel, bias
        self._by_step = by_step
        # Not for the single utterance of a device, which would read the whole kernel for each
        # frame.
        is_narrow = _NARROW * inputs.shape[-1] <= kernel.shape[-1] and inputs.shape[0] != 1
        self._projected = None if is_narrow else self._project(self._rows)

    def _project(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, self._kernel) + self._bias

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """The projection of one step, [B, G]."""
        places = tf.gather(self._by_step, step)
        if self._projected is None:
            return self._project(tf.gather(self._rows, places))
        return tf.gather(self._projected, places)

    def all(self) -> tf.Tensor:
        """The projections of all steps, [T, B, G]."""
        projected = self._project(self._rows) if self._projected is None else self._projected
        return tf.gather(projected, self._by_step)

    def gradient(
        self, d_gates: tf.Tensor, by_utterance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Gradients of inputs, kernel and bias, given that of all steps [T, B, G]."""
        # Reorder the inputs and not the gates, which are wider in a first layer. Delay this copy:
        # made earlier, it would raise peak memory.
        with tf.control_dependencies([d_gates]):
            inputs = tf.gather(self._rows, self._by_step)
        d_inputs = tf.matmul(rows_of(d_gates), self._kernel, transpose_b=True)
        d_kernel, d_bias = outer_sum(inputs, d_gates), sum_of_rows(d_gates)
        return tf.gather(d_inputs, by_utterance), d_kernel, d_bias


@tf.custom_gradient
def lstm_scan(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    recurrent_kernel: Kernel,
    by_step: tf.Tensor,
    by_utterance: tf.Tensor,
):
    """Runs an LSTM over time from a zero state.

    Args:
      inputs: [B, T, F].
      kernel: [F, 4H], or wider if it was widened, as all others.
      bias: [4H].
      recurrent_kernel: [H, 4H], or its two factors.
      by_step, by_utterance: the `Order` in which it goes through them.
    Returns:
      Hidden states [B, T, H].
    """
    units, width = size_of(recurrent_kernel)
    batch, steps, _ = dimensions(inputs)
    zeros = tf.zeros([batch, units], inputs.dtype)
    projection = _Projection(inputs, kernel, bias, by_step)

    def run(*, is_taped: bool) -> list[tf.Tensor]:
        def body(t, hidden, cell, hiddens, *tape):
            now = lstm_gates(projection.at(t) + times(hidden, recurrent_kernel), units)
            hidden, cell = lstm_states(now, cell)
            values = (cell, tf.concat(now, -1))[: len(tape)]
            taped = [array.write(t, value) for array, value in zip(tape, values, strict=True)]
            return t + 1, hidden, cell, hiddens.write(t, hidden), *taped

        widths = [units, units, 4 * units] if is_taped else [units]
        loop = (0, zeros, zeros, *arrays(inputs, steps, widths))
        results = sequential_while_loop(lambda t, *_: t < steps, body, loop)
        return [array.stack() for array in results[3:]]

    hiddens, *kept = run(is_taped=is_tape_kept(inputs))

    def gradient(upstream):
        # Delay the tape, which is as large as the gates: made earlier, it would raise peak memory.
        with tf.control_dependencies([upstream]):
            cells, gates = kept or run(is_taped=True)[1:]
            tape = Steps(LstmTape.of(gates, cells))
        d_outputs = rows_of(upstream)
        to_hidden = transposed(merged(recurrent_kernel)[:, : 4 * units])
        spare = tf.zeros([batch, width - 4 * units], inputs.dtype)

        def backward(t, d_hidden, d_cell, d_gates):
            d_hidden += tf.gather(d_outputs, tf.gather(by_step, t))
            d_gate, d_cell = tape.at(t).step(d_hidden, d_cell)
            d_gates = d_gates.write(t, tf.concat([d_gate, spare], -1))
            return t - 1, tf.matmul(d_gate, to_hidden)[:, :units], d_cell, d_gates

        loop = (steps - 1, zeros, zeros, *arrays(inputs, steps, [width]))
        *_, d_gates = sequential_while_loop(lambda t, *_: t >= 0, backward, loop)
        d_gates = d_gates.stack()
        # Delay the shifted copy: made earlier, it would raise peak memory.
        with tf.control_dependencies([d_gates]):
            d_recurrent_kernel = outer_sum(shifted(hiddens), d_gates)
        return (
            *projection.gradient(d_gates, by_utterance),
            *gradients_of_factors(d_recurrent_kernel, recurrent_kernel),
            None,
            None,
        )

    return _look_up(hiddens, by_utterance), gradient


@tf.custom_gradient
def gru_scan(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    recurrent_kernel: Kernel,
    recurrent_bias: tf.Tensor,
    by_step: tf.Tensor,
    by_utterance: tf.Tensor,
):
    """Runs a GRU over time from a zero state.

    Args:
      inputs: [B, T, F].
      kernel: [F, 3H], of update, reset and candidate; or wider if it was widened, as all others.
      bias: [3H], of the inputs.
      recurrent_kernel: [H, 3H], or its two factors.
      recurrent_bias: [3H].
      by_step, by_utterance: the `Order` in which it goes through them.
    Returns:
      Hidden states [B, T, H].
    """
    units, width = size_of(recurrent_kernel)
    batch, steps, _ = dimensions(inputs)
    zeros = tf.zeros([batch, units], inputs.dtype)
    projection = _Projection(inputs, kernel, bias, by_step)

    def run(*, is_taped: bool) -> list[tf.Tensor]:
        def body(t, hidden, hiddens, *tape):
            recurrent = times(hidden, recurrent_kernel) + recurrent_bias
            hidden = gru_state(gru_gates(projection.at(t), recurrent, units), hidden)
            taped = [array.write(t, recurrent) for array in tape]
            return t + 1, hidden, hiddens.write(t, hidden), *taped

        loop = (0, zeros, *arrays(inputs, steps, [units, width] if is_taped else [units]))
        results = sequential_while_loop(lambda t, *_: t < steps, body, loop)
        return [array.stack() for array in results[2:]]

    hiddens, *kept = run(is_taped=is_tape_kept(inputs))

    def gradient(upstream):
        # Delay the tape, which is as large as the gates; earlier, it would raise peak memory.
        with tf.control_dependencies([upstream]):
            (recurrents,) = kept or run(is_taped=True)[1:]
            before = shifted(hiddens)
            gates = gru_gates(projection.all(), recurrents, units)
            tape = Steps(GruTape.of(gates, before))
        d_outputs = rows_of(upstream)
        to_hidden = transposed(merged(recurrent_kernel)[:, : 3 * units])
        spare = tf.zeros([batch, width - 3 * units], inputs.dtype)

        def backward(t, d_hidden, d_projections, d_recurrents):
            d_hidden += tf.gather(d_outputs, tf.gather(by_step, t))
            d_projected, d_recurrent, d_before = tape.at(t).step(d_hidden)
            d_projections = d_projections.write(t, tf.concat([d_projected, spare], -1))
            d_recurrents = d_recurrents.write(t, tf.concat([d_recurrent, spare], -1))
            d_hidden = d_before + tf.matmul(d_recurrent, to_hidden)[:, :units]
            return t - 1, d_hidden, d_projections, d_recurrents

        loop = (steps - 1, zeros, *arrays(inputs, steps, [width, width]))
        *_, d_projections, d_recurrents = sequential_while_loop(
            lambda t, *_: t >= 0, backward, loop
        )
        d_recurrents = d_recurrents.stack()
        return (
            *projection.gradient(d_projections.stack(), by_utterance),
            *gradients_of_factors(outer_sum(before, d_recurrents), recurrent_kernel),
            sum_of_rows(d_recurrents),
            None,
            None,
        )

    return _look_up(hiddens, by_utterance), gradient


@keras.saving.register_keras_serializable("tfkd")
class BidirectionalRNN(keras.layers.Layer):
    """A bidirectional LSTM or GRU over utterances of different lengths.

    The backward direction starts at the end of each utterance, so padding has no effect.

    Args:
      cell: "lstm" or "gru".
      units: size of each direction; the output has twice as many features.
      rank: of the kernels, which are held as two factors each; 0 leaves them whole.
    """

    def __init__(self, cell: Cell, units: int, rank: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell, self.units, self.rank = cell, units, rank

    def build(self, input_shape) -> None:
        self.directions = [
            add_cell_weights(self, self.cell, self.units, input_shape[-1], self.rank, f"{name}_")
            for name in ("forward", "backward")
        ]
        # TensorFlow tracks the lists of a layer, and not those within them: SavedModel needs both.
        self.forward_weights, self.backward_weights = self.directions
        self.built = True

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Maps inputs [B, T, F] and lengths [B] to [B, T, 2H], zero beyond each length."""
        outputs: list[tf.Tensor] = []
        for weights, order in zip(
            self.directions, (Order.forward(inputs), Order.backward(inputs, lengths)), strict=True
        ):
            # Run one direction after the other, so that memory holds the projections of one.
            with tf.control_dependencies(outputs):
                waiting = tf.identity(inputs)
            outputs.append(self._run(waiting, order, weights))
        return zero_beyond(tf.concat(outputs, -1), lengths)

    def _run(self, inputs: tf.Tensor, order: Order, weights: Sequence[Kernel]) -> tf.Tensor:
        """Hidden states [B, T, H] of one direction."""
        tensors = [as_tensors(weight) for weight in weights]
        if self.rank:
            (left, right), *others = tensors
            inputs, tensors = project(inputs, left), [right, *others]
        if inputs.shape[0] != 1:  # Wider kernels are no faster for products of a single row.
            tensors = widen_after(tensors, inputs)
        kernel, recurrent_kernel, bias, *recurrent_bias = tensors
        scan = lstm_scan if self.cell == "lstm" else gru_scan
        return scan(inputs, kernel, bias, recurrent_kernel, *recurrent_bias, *order)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "cell": self.cell,
            "units": self.units,
            "rank": self.rank,
        }
