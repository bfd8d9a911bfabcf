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


class RecurrentCell(keras.layers.Layer):
    """The weights of an LSTM or a GRU, as in `keras.layers.LSTMCell` and `keras.layers.GRUCell`."""

    def __init__(self, cell: Cell, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell, self.units = cell, units

    def build(self, input_shape) -> None:
        """Creates the weights for inputs of shape (..., F)."""
        width = GATES[self.cell] * self.units
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], width))
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=forget_gate_bias(self.cell)
        )
        if self.cell == "gru":
            self.recurrent_bias = self.add_weight(
                name="recurrent_bias", shape=(width,), initializer="zeros"
            )
        self.built = True

    def step(
        self, inputs: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps inputs [N, F] and the state to the next hidden state and cell.

        Args:
          hidden: [N, H], the last output.
          cell: [N, H] of an LSTM; a GRU hands on what it gets, such as [N, 0].
        """
        projected = tf.matmul(inputs, tf.convert_to_tensor(self.kernel)) + self.bias
        recurrent = tf.matmul(hidden, tf.convert_to_tensor(self.recurrent_kernel))
        if self.cell == "lstm":
            return lstm_states(lstm_gates(projected + recurrent, self.units), cell)
        gates = gru_gates(projected, recurrent + self.recurrent_bias, self.units)
        return gru_state(gates, hidden), cell

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        return {**super().get_config(), "cell": self.cell, "units": self.units}
