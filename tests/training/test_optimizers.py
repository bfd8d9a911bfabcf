"""The optimizer does what Adam of Keras does, and Adam by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.training.optimizers import Adam, averaged_weights

SHAPES = [(5, 3), (7,), ()]
STEPS = 6


def gradients_of(step: int) -> list[np.ndarray]:
    """Sizes from tiny to large, and a zero."""
    rng = np.random.default_rng(step)
    gradients = [rng.normal(0, 10.0 ** rng.integers(-6, 3), shape) for shape in SHAPES]
    gradients[0][0] = 0
    return [gradient.astype(np.float32) for gradient in gradients]


def trained(optimizer: keras.optimizers.Optimizer, **compiling: bool) -> list[np.ndarray]:
    """Weights and moments after STEPS steps."""
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]
    optimizer.build(weights)
    apply = tf.function(lambda *gradients: optimizer.apply(list(gradients), weights), **compiling)
    for step in range(STEPS):
        apply(*map(tf.constant, gradients_of(step)))
    return [np.array(variable) for variable in [*weights, *optimizer.variables]]


def schedule() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_it_is_that_of_keras(clip, xla):
    options = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5, "global_clipnorm": clip}
    found = trained(Adam(schedule(), **options), jit_compile=xla)
    expected = trained(keras.optimizers.Adam(schedule(), **options))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=1e-7)


def test_it_is_adam_in_float64():
    rate, beta_1, beta_2, epsilon = 0.01, 0.9, 0.999, 1e-7
    found = trained(Adam(rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon))
    rng = np.random.default_rng(0)
    for n, shape in enumerate(SHAPES):
        weight = rng.normal(size=shape).astype(np.float32).astype(np.float64)
        m, v = np.zeros(shape), np.zeros(shape)
        for step in range(STEPS):
            gradient = gradients_of(step)[n].astype(np.float64)
            m = beta_1 * m + (1 - beta_1) * gradient
            v = beta_2 * v + (1 - beta_2) * gradient**2
            without_bias = m / (1 - beta_1 ** (step + 1)), v / (1 - beta_2 ** (step + 1))
            epsilon_then = epsilon / np.sqrt(1 - beta_2 ** (step + 1))
            weight -= rate * without_bias[0] / (np.sqrt(without_bias[1]) + epsilon_then)
        np.testing.assert_allclose(found[n], weight, rtol=1e-5, atol=1e-6)


def test_rows_that_a_gradient_lacks_are_zeros():
    weights = [keras.Variable(np.ones((4, 2), np.float32)) for _ in range(2)]
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([3, 1]), tf.constant([4, 2]))
    optimizer = Adam(0.1)
    for _ in range(3):
        optimizer.apply([rows, tf.convert_to_tensor(rows)], weights)
    np.testing.assert_array_equal(*map(np.array, weights))
    np.testing.assert_array_equal(np.any(weights[0] != 1, 1), [False, True, False, True])


def test_one_operation_for_each_weight():
    weights = [keras.Variable(np.zeros(shape, np.float32)) for shape in SHAPES]
    optimizer = Adam(0.1)
    optimizer.build(weights)
    step = tf.function(lambda: optimizer.apply([tf.zeros(s) for s in SHAPES], weights))
    names = [operation.type for operation in step.get_concrete_function().graph.get_operations()]
    assert names.count("ResourceApplyAdam") == len(SHAPES)
    assert names.count("Sqrt") == 1


@pytest.mark.parametrize("option", ["amsgrad", "use_ema"])
def test_what_it_cannot_do_is_refused(option):
    with pytest.raises(ValueError, match=option):
        Adam(0.1, **{option: True})


# --- averages


def model_after(optimizer: keras.optimizers.Optimizer, steps: int) -> tuple[keras.Model, list]:
    """A model after some steps, and its weights after each of them."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile(optimizer, "mse", jit_compile=False)
    rng, seen = np.random.default_rng(0), []
    for _ in range(steps):
        model.train_on_batch(rng.normal(size=(4, 2)), rng.normal(size=(4, 3)))
        seen.append(model.get_weights())
    return model, seen


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("scaled", [False, True])
def test_averages_are_those_of_the_stated_share(share, scaled):
    optimizer = Adam(0.1, average_share=share)
    model, seen = model_after(
        keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, STEPS
    )
    power, steps = 1 / share, np.arange(1, STEPS + 1)
    counts = (steps**power - (steps - 1) ** power) / STEPS**power
    assert counts.sum() == pytest.approx(1)
    with averaged_weights(model):
        for place, average in enumerate(model.get_weights()):
            expected = sum(c * each[place] for c, each in zip(counts, seen, strict=True))
            np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)
    for found, own in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(found, own)


def test_an_error_leaves_the_models_own_weights():
    model, seen = model_after(Adam(0.1, average_share=0.1), 3)
    with pytest.raises(KeyError), averaged_weights(model):
        raise KeyError
    np.testing.assert_array_equal(model.get_weights()[0], seen[-1][0])


def test_without_averages_nothing_changes():
    model, seen = model_after(Adam(0.1), 3)
    assert not model.optimizer.averages
    with averaged_weights(model):
        np.testing.assert_array_equal(model.get_weights()[0], seen[-1][0])


@pytest.mark.parametrize("xla", [False, True])
def test_they_do_not_change_what_is_learned(xla):
    plain, averaged = (
        trained(Adam(0.1, average_share=share), jit_compile=xla) for share in (0.0, 0.1)
    )
    assert len(averaged) == len(plain) + len(SHAPES)
    for one, other in zip(plain, averaged, strict=False):
        np.testing.assert_array_equal(one, other)


def test_the_share_is_among_the_settings():
    optimizer = Adam.from_config(Adam(0.1, average_share=0.2).get_config())
    assert optimizer.average_share == 0.2
