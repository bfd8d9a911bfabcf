"""The optimizer of every training."""

from __future__ import annotations

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Adam that updates each weight by one operation of TensorFlow, in place.

    That of Keras builds many for each. Gradients are to be summed over replicas before: Keras would
    sum them after clipping.

    References:
      Kingma and Ba 2015, arXiv:1412.6980, in the order that the end of section 2 proposes.

    Raises:
      ValueError: for amsgrad, which the operation does not know.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("amsgrad is not supported: use keras.optimizers.Adam")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one weight and its moments; learning_rate is corrected for their bias."""
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
        # Once for all weights, not for each.
        step = tf.cast(self.iterations + 1, tf.float32)
        corrected = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        super()._backend_update_step(grads, trainable_variables, learning_rate * corrected)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)
