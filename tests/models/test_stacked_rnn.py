"""The decoder of several layers: what one layer has in common with the fast one, and sampling."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_token_ids, randomise

from tfkd.config import AttentionConfig, DecoderConfig
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.decoders.stacked_rnn import StackedDecoder
from tfkd.text import SOS_ID

ENCODED, LENGTHS = 4, [7, 1, 4]
ATTENTION = AttentionConfig(kind="location", units=5, location_filters=2, location_width=3)


def stacked(**config):
    layer = StackedDecoder(
        DecoderConfig(units=6, embedding_units=3, **config), ATTENTION, VOCAB_SIZE
    )
    layer.build(ENCODED)
    randomise(layer.trainable_variables, gain=2.0)
    return layer


def random_encoded():
    rng = np.random.default_rng(0)
    encoded = np.zeros((3, 7, ENCODED), np.float32)
    for row, length in enumerate(LENGTHS):
        encoded[row, :length] = rng.normal(size=(length, ENCODED))
    return tf.constant(encoded)


def inputs(seed=1):
    token_ids = random_token_ids(np.random.default_rng(seed), 3, 2)
    token_ids[:, :, 0] = SOS_ID
    return token_ids


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_one_layer_is_the_fast_decoder(cell):
    """Logits and gradients: two implementations, one of them by hand."""
    ours = stacked(cell=cell)
    theirs = AttentionDecoder(ours.config, ATTENTION, VOCAB_SIZE)
    theirs.build(ENCODED)
    kernel = ours.cells[0].kernel
    pairs = [
        (theirs.embedding, ours.embedding),
        (theirs.token_kernel, kernel[:3]),
        (theirs.context_kernel, kernel[3:]),
        (theirs.recurrent_kernel, ours.cells[0].recurrent_kernel),
        (theirs.bias, ours.cells[0].bias),
        (theirs.output_kernel, ours.output_kernel),
        (theirs.output_bias, ours.output_bias),
        *zip(theirs.attention.trainable_variables, ours.attention.trainable_variables, strict=True),
    ]
    if cell == "gru":
        pairs.append((theirs.recurrent_bias, ours.cells[0].recurrent_bias))
    for variable, value in pairs:
        variable.assign(value)
    upstream = np.random.default_rng(2).normal(size=(*inputs().shape, VOCAB_SIZE))

    def logits_and_gradients(layer):
        encoded = random_encoded()
        with tf.GradientTape() as tape:
            tape.watch(encoded)
            logits = layer(inputs(), encoded, tf.constant(LENGTHS), training=True)
            total = tf.reduce_sum(logits * upstream)
        watched = [encoded, layer.output_kernel.value, *(
            variable.value for variable in layer.attention.trainable_variables)]  # fmt: skip
        return [logits, *tape.gradient(total, watched)]

    for got, expected in zip(logits_and_gradients(ours), logits_and_gradients(theirs), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-3)


def test_many_filters_are_read_through_their_product():
    """More filters than places in the window: the result is that of the convolution."""
    layer = stacked(cell="gru").attention
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 1, 8)), rng.normal(size=(8, 5))
    wide = type(layer)(AttentionConfig("location", 5, 8, 3))
    wide.build(ENCODED, 6)
    randomise(wide.trainable_variables)
    for variable, value in zip((wide.filters, wide.filter_kernel), kernel, strict=True):
        variable.assign(value)
    earlier = tf.constant(rng.uniform(size=(3, 7)), tf.float32)
    query = tf.constant(rng.normal(size=(3, 6)), tf.float32)
    memory = wide.memory(random_encoded(), tf.constant(LENGTHS))
    _, alignment = wide.call(query, earlier, memory)
    location = tf.nn.conv1d(earlier[..., None], wide.filters.value, 1, "SAME") @ kernel[1]
    z = memory.keys[:, 0] + (query @ wide.query_kernel.value)[:, None] + location
    energies = tf.linalg.matvec(tf.tanh(z), wide.energy.value) + memory.mask_bias[:, 0]
    np.testing.assert_allclose(alignment, tf.nn.softmax(energies), atol=1e-5)


def test_sampling_acts_in_training_only():
    layer, plain = (stacked(layers=2, teacher_forcing_rate=rate) for rate in (0.5, 1.0))
    arguments = inputs(), random_encoded(), tf.constant(LENGTHS)
    np.testing.assert_array_equal(layer(*arguments), plain(*arguments))
    np.testing.assert_allclose(plain(*arguments, training=True), plain(*arguments), atol=1e-6)
    first, second = (layer(*arguments, training=True) for _ in range(2))
    np.testing.assert_allclose(first[:, :, 0], plain(*arguments)[:, :, 0], atol=1e-6)
    assert np.abs(first - second).max() > 1e-3, "each step draws anew"


def test_without_teacher_forcing_targets_are_not_read():
    layer = stacked(layers=2, teacher_forcing_rate=0.0)
    encoded, lengths = random_encoded(), tf.constant(LENGTHS)
    results = []
    for seed in (1, 2):
        layer.seed_generator.state.assign([7, 0])
        results.append(layer(inputs(seed), encoded, lengths, training=True))
    np.testing.assert_array_equal(*results)


def test_the_share_of_forced_steps_is_the_rate():
    """A decoder that always predicts token 5 reads it wherever it does not read the target."""
    layer = stacked(layers=1, teacher_forcing_rate=0.4)
    layer.output_kernel.assign(tf.zeros_like(layer.output_kernel))
    layer.output_bias.assign(tf.one_hot(5, VOCAB_SIZE) * 50.0)
    by_step = tf.fill([40, 200], 6)
    inputs_of = layer._sampled_inputs(by_step, 200)
    last = tf.zeros([200, 6 + ENCODED])
    read = np.array([inputs_of(tf.constant(t), last) for t in range(40)])
    assert (read[0] == 6).all()
    assert set(np.unique(read)) == {5, 6}
    assert (read[1:] == 6).mean() == pytest.approx(0.4, abs=0.02)


def test_every_position_of_every_step_draws_anew():
    """Keras' seeds of successive steps differ by one, as do positions, but no draw comes again."""
    layer = stacked(layers=1, teacher_forcing_rate=0.0)
    layer.output_kernel.assign(tf.zeros_like(layer.output_kernel))
    layer.output_bias.assign(tf.zeros_like(layer.output_bias))
    last = tf.zeros([50, 6 + ENCODED])
    drawn = []
    for _ in range(3):
        inputs_of = layer._sampled_inputs(tf.fill([6, 50], SOS_ID), 50)
        drawn += [inputs_of(tf.constant(t), last) for t in range(1, 6)]
    assert len(np.unique(drawn, axis=0)) == 15


def test_dropout_acts_in_training_only():
    layer, plain = stacked(layers=2, dropout=0.5), stacked(layers=2)
    arguments = inputs(), random_encoded(), tf.constant(LENGTHS)
    np.testing.assert_array_equal(layer(*arguments), plain(*arguments))
    dropped = layer(*arguments, training=True)
    assert np.abs(dropped - plain(*arguments)).max() > 0.05


def test_config_round_trip():
    layer = stacked(layers=2, cell="gru", teacher_forcing_rate=0.4)
    copy = StackedDecoder.from_config(layer.get_config())
    assert (copy.config, copy.attention.config) == (layer.config, layer.attention.config)
