"""Adam in one TensorFlow operation per weight, with averages of the weights: every training's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Adam that updates each weight in place with few TensorFlow operations; Keras' takes many.

    With several replicas, gradients must be summed before they are passed: Keras would sum them
    after clipping.

    Args:
      average_share: share of the steps so far, the latest ones, of which the averages of the
        weights are mostly made: with p = 1 / average_share, the weights of step n count as
        n ** p - (n - 1) ** p. With 0 there are no averages.

    Attributes:
      averages: the average of each weight, once the optimizer is built.

    References:
      Kingma and Ba 2015, "Adam", arXiv:1412.6980, in the order of operations that the end of
      section 2 proposes. The averages are those of Karras et al. 2024, arXiv:2312.02696, eq. 3.

    Raises:
      ValueError: if amsgrad is set, which the operation does not support, or use_ema, with which
        the end of every `fit` would replace the weights.
    """

    def __init__(self, *args, average_share: float = 0.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("amsgrad is not supported: use keras.optimizers.Adam")
        if self.use_ema:
            raise ValueError("use_ema is not supported: set average_share")
        self.average_share = average_share
        self.averages: list[keras.Variable] = []

    def build(self, var_list) -> None:
        """Creates the moments of the weights, and their averages."""
        is_new = not self.built
        super().build(var_list)
        if is_new and self.average_share:
            self.averages = self.add_optimizer_variables(var_list, "average")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one weight, its moments and its average.

        Args:
          learning_rate: the rate with which the bias of the moments is corrected, and the rate of
            the average.
        """
        corrected, average_rate = learning_rate
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=corrected,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )
        if self.average_share:
            average = self.averages[index].value
            average.assign_add(average_rate * (variable - average))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average_share": self.average_share}

    def _backend_update_step(self, grads, trainable_variables, learning_rate) -> None:
        # Compute what all weights share once.
        step = tf.cast(self.iterations + 1, tf.float32)
        corrected = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        rates = learning_rate * corrected, self._average_rate(step)
        super()._backend_update_step(grads, trainable_variables, rates)

    def _average_rate(self, step: tf.Tensor) -> tf.Tensor:
        """1 - (1 - 1 / step) ** (1 / average_share), exact also where it is small."""
        if not self.average_share:
            return tf.zeros([])
        return -tf.math.expm1(tf.math.log1p(-1.0 / step) / self.average_share)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Puts the averages of the weights into a model while the block runs, if there are any.

    >>> layer = keras.layers.Dense(1, kernel_initializer="zeros")
    >>> model = keras.Sequential([keras.Input([1]), layer])
    >>> model.compile(Adam(average_share=0.1), "mse")
    >>> history = model.fit(np.ones([8, 1]), np.ones([8, 1]), batch_size=1, verbose=0)
    >>> own = float(layer.kernel[0, 0])
    >>> with averaged_weights(model):
    ...     float(layer.kernel[0, 0]) < own  # it rose from zero
    True
    """
    optimizer = getattr(model, "optimizer", None)  # a loaded run has none
    averages = getattr(getattr(optimizer, "inner_optimizer", optimizer), "averages", [])
    replaced = model.trainable_variables if averages else []
    own = [np.array(weight) for weight in replaced]
    _assign(replaced, averages)
    try:
        yield
    finally:
        _assign(replaced, own)


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
