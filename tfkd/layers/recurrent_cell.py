"""The weights of a recurrent cell, and one step of it."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfkd.layers.cells import (
    GATES,
    Cell,
    forget_gate_bias,
    gru_gates,
    gru_state,
    lstm_gates,
    lstm_states,
)
from tfkd.layers.low_rank import Kernel, add_kernel, as_tensors, times


def add_cell_weights(
    layer: keras.layers.Layer, cell: Cell, units: int, num_inputs: int, rank: int, prefix: str = ""
) -> list[Kernel]:
    """Adds the weights of a cell to a layer, and returns them.

    Returns:
      The kernel [F, G], the recurrent kernel [H, G], the bias [G], and of a GRU the recurrent bias
      [G], where G is H times the number of gates.
    """
    width = GATES[cell] * units
    weights = [
        add_kernel(layer, f"{prefix}kernel", (num_inputs, width), rank),
        add_kernel(
            layer,
            f"{prefix}recurrent_kernel",
            (units, width),
            rank,
            initializer=keras.initializers.Orthogonal(),
        ),
        layer.add_weight(name=f"{prefix}bias", shape=(width,), initializer=forget_gate_bias(cell)),
    ]
    if cell == "gru":
        weights.append(
            layer.add_weight(name=f"{prefix}recurrent_bias", shape=(width,), initializer="zeros")
        )
    return weights


class RecurrentCell(keras.layers.Layer):
    """The weights of an LSTM or a GRU, as in `keras.layers.LSTMCell` and `keras.layers.GRUCell`.

    Args:
      cell: "lstm" or "gru".
      units: H.
      rank: of the kernels, which are held as two factors each; 0 leaves them whole.
    """

    def __init__(self, cell: Cell, units: int, rank: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell, self.units, self.rank = cell, units, rank

    def build(self, input_shape) -> None:
        """Creates the weights for inputs of shape (..., F)."""
        weights = add_cell_weights(self, self.cell, self.units, input_shape[-1], self.rank)
        self.kernel, self.recurrent_kernel, self.bias, *recurrent_bias = weights
        if recurrent_bias:
            (self.recurrent_bias,) = recurrent_bias
        self.built = True

    def step(
        self, inputs: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps inputs [N, F] and the state to the next hidden state and cell.

        Args:
          hidden: [N, H], the last output.
          cell: [N, H] of an LSTM; a GRU hands on what it gets, such as [N, 0].
        """
        projected = times(inputs, as_tensors(self.kernel)) + self.bias
        recurrent = times(hidden, as_tensors(self.recurrent_kernel))
        if self.cell == "lstm":
            return lstm_states(lstm_gates(projected + recurrent, self.units), cell)
        gates = gru_gates(projected, recurrent + self.recurrent_bias, self.units)
        return gru_state(gates, hidden), cell

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        return {
            **super().get_config(),
            "cell": self.cell,
            "units": self.units,
            "rank": self.rank,
        }
