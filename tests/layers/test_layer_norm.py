"""The lean layer is the layer of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.layers.layer_norm import LayerNormalization


def pair(dtype: str = "float32") -> list[keras.layers.Layer]:
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=7), rng.normal(size=7)]
    layers = [keras.layers.LayerNormalization(dtype=dtype), LayerNormalization(dtype=dtype)]
    for layer in layers:
        layer.build((None, None, 7))
        layer.set_weights(weights)
    return layers


def inputs(scale: float = 3.0) -> tf.Tensor:
    values = np.random.default_rng(2).normal(2.0, scale, size=(4, 5, 7))
    values[1, 2] = 0.0  # no variance
    return tf.constant(values, tf.float32)


@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e3])
def test_outputs_and_gradients_are_those_of_keras(scale: float) -> None:
    upstream = tf.constant(np.random.default_rng(3).normal(size=(4, 5, 7)), tf.float32)
    found = []
    for layer in pair():
        values = inputs(scale)
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = layer(values)
        sources = [values, *layer.trainable_variables]
        found.append([outputs, *tape.gradient(outputs, sources, upstream)])
    for expected, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())


def test_half_precision_is_as_near_to_float32_as_that_of_keras() -> None:
    exact = pair()[0](inputs())
    for layer in pair("mixed_bfloat16"):
        outputs = layer(inputs())
        assert outputs.dtype == tf.bfloat16
        np.testing.assert_allclose(tf.cast(outputs, tf.float32), exact, atol=0.05)


def test_it_is_made_again_from_its_config_and_the_weights_of_keras() -> None:
    theirs, ours = pair()
    copy = LayerNormalization.from_config(ours.get_config())
    copy.build((None, None, 7))
    copy.set_weights(theirs.get_weights())
    np.testing.assert_array_equal(copy(inputs()), ours(inputs()))
