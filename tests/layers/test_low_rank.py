"""Kernels of low rank: the same layers as with the product of their factors, in fewer weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES
from helpers import VOCAB_SIZE, randomise

from tfkd.layers.recurrent import BidirectionalRNN
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.recogniser import Recogniser

RANK = 3


def draw(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def whole(layer, make, build):
    """The same layer with each pair of factors multiplied."""
    other = make(0)
    other.build(build)
    by_path = {variable.path.partition("/")[2]: variable for variable in layer.variables}
    for variable in other.variables:
        path = variable.path.partition("/")[2]
        if path in by_path:
            variable.assign(by_path[path])
        else:
            left, right = (by_path[f"{path}_{side}"] for side in ("left", "right"))
            variable.assign(tf.matmul(left, right))
    return other


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_layer_is_that_of_the_product(cell, batch):
    """Batch 1 is what a device runs."""

    def make(rank):
        return BidirectionalRNN(cell, 8, rank)

    layer = make(RANK)
    layer.build((None, None, 6))
    randomise(layer.trainable_variables)
    inputs, lengths = draw(batch, 7, 6), tf.constant([7, 4, 1][:batch])
    expected = whole(layer, make, (None, None, 6))(inputs, lengths)
    np.testing.assert_allclose(layer(inputs, lengths), expected, atol=3e-5)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gradients_of_factors_are_differences(cell):
    layer = BidirectionalRNN(cell, 4, 2)
    layer.build((None, None, 3))
    randomise(layer.trainable_variables)
    inputs, lengths, weights = draw(2, 4, 3), tf.constant([4, 3]), draw(2, 4, 8, seed=1)

    def loss():
        return tf.reduce_sum(weights * layer(inputs, lengths))

    with tf.GradientTape() as tape:
        value = loss()
    factors = [v for v in layer.trainable_variables if v.name.endswith(("_left", "_right"))]
    assert len(factors) == 8
    for variable, gradient in zip(
        factors, tape.gradient(value, [v.value for v in factors]), strict=True
    ):
        before = variable.numpy()
        for place in [(0, 0), (before.shape[0] - 1, before.shape[1] - 1)]:
            ends = []
            for sign in (1, -1):
                moved = before.copy()
                moved[place] += sign * 1e-2
                variable.assign(moved)
                ends.append(float(loss()))
            variable.assign(before)
            expected = (ends[0] - ends[1]) / 2e-2
            assert float(gradient[place]) == pytest.approx(expected, abs=3e-3), variable.name


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_decoder_is_that_of_the_product(cell):
    """In teacher forcing, which multiplies the factors, and in the steps of a search."""
    config = dataclasses.replace(FAMILIES["transformer-rnn"].decoder, cell=cell)
    attention = FAMILIES["transformer-rnn"].attention

    def make(rank):
        decoder = dataclasses.replace(config, rank=rank)
        return AttentionDecoder(decoder, attention, VOCAB_SIZE)

    layer = make(RANK)
    layer.build(6)
    randomise(layer.trainable_variables)
    reference = whole(layer, make, 6)
    encoded, lengths = draw(2, 5, 6), tf.constant([5, 3])
    token_ids = tf.constant([[[2, 5, 6]], [[2, 7, 5]]])
    expected = reference(token_ids, encoded, lengths)
    np.testing.assert_allclose(layer(token_ids, encoded, lengths), expected, atol=1e-4)
    memory, state = layer.memory(encoded, lengths), layer.initial_state(encoded, 3)
    for step in range(3):
        logits, state = layer.step(token_ids[:, 0, step], state, memory)
        np.testing.assert_allclose(logits, expected[:, 0, step], atol=1e-4)


@pytest.mark.parametrize("name", ["paper", "deep-lstm-decoder", "transformer-rnn", "low-rank"])
def test_factors_are_counted_as_they_are_held(name):
    """A kernel [F, G] of rank R has R (F + G) weights; nothing else changes."""
    config = FAMILIES[name]

    def model(rank):
        parts = {
            part: dataclasses.replace(value, rank=rank)
            for part in ("encoder", "decoder")
            if hasattr(value := getattr(config, part), "rank")
        }
        return Recogniser(dataclasses.replace(config, **parts), VOCAB_SIZE)

    whole, factored = iter(model(0).variables), iter(model(1).variables)
    pairs = 0
    for variable in factored:
        shape = next(whole).shape
        if variable.name.endswith("_left"):
            assert "kernel" in variable.name
            assert (variable.shape, next(factored).shape) == ((shape[0], 1), (1, shape[1]))
            pairs += 1
        else:
            assert variable.shape == shape
    assert pairs >= 2
    assert next(whole, None) is None
