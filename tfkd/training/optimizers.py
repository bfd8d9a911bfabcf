"""Adam in one TensorFlow operation per weight: the optimizer of every training."""

from __future__ import annotations

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Adam that updates each weight in place with one TensorFlow operation; Keras' takes many.

    With several replicas, gradients must be summed before they are passed: Keras would sum them
    after clipping.

    References:
      Kingma and Ba 2015, "Adam", arXiv:1412.6980, in the order of operations that the end of
      section 2 proposes.

    Raises:
      ValueError: if amsgrad is set, which the operation does not support.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("amsgrad is not supported: use keras.optimizers.Adam")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one weight and its moments; learning_rate holds the correction of their bias."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )

    def _backend_update_step(self, grads, trainable_variables, learning_rate) -> None:
        # Compute the bias correction once for all weights.
        step = tf.cast(self.iterations + 1, tf.float32)
        corrected = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        super()._backend_update_step(grads, trainable_variables, learning_rate * corrected)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)
