"""Layer normalisation whose gradient keeps few copies of its input."""

from __future__ import annotations

import keras
import tensorflow as tf


@tf.custom_gradient
def normalise(inputs: tf.Tensor, epsilon: float):
    """inputs [..., F] with mean zero and variance one over F.

    References:
      Ba et al. 2016, arXiv:1607.06450, eq. 4; the gradient keeps the result alone.
    """
    centred = inputs - tf.reduce_mean(inputs, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    outputs = centred * scale

    def gradient(upstream: tf.Tensor):
        along = tf.reduce_mean(upstream * outputs, -1, keepdims=True)
        mean = tf.reduce_mean(upstream, -1, keepdims=True)
        return scale * (upstream - mean - outputs * along), None

    return outputs, gradient


@keras.saving.register_keras_serializable("tfkd")
class LayerNormalization(keras.layers.LayerNormalization):
    """Over the last axis, with the weights and results of the layer of Keras.

    That one makes scale and offset as large as its input, several times over, and lets TensorFlow
    differentiate each operation. The name is the same because files of models hold it.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Compute in float32 at any precision, as Keras does.
        outputs = normalise(tf.cast(inputs, tf.float32), self.epsilon)
        outputs = outputs * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32)
        return tf.cast(outputs, self.compute_dtype)
