"""Layer normalisation with a custom gradient, which needs less memory."""

from __future__ import annotations

import keras
import tensorflow as tf


@tf.custom_gradient
def normalise(inputs: tf.Tensor, epsilon: float):
    """Normalises inputs [..., F] to mean zero and variance one over F.

    Of the forward pass, the gradient needs the result and the scale alone.

    References:
      Ba et al. 2016, "Layer normalization", arXiv:1607.06450, eq. 4.
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
    """Layer normalisation over the last axis, with the weights and results of Keras' layer.

    Keras' layer broadcasts scale and offset to the size of its input several times, and lets
    TensorFlow differentiate each operation. Saved models hold the name, so it stays the same.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Compute in float32 at any precision, as Keras does.
        outputs = normalise(tf.cast(inputs, tf.float32), self.epsilon)
        outputs = outputs * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32)
        return tf.cast(outputs, self.compute_dtype)
