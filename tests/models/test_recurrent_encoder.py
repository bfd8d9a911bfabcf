"""Time reduction by hand, and encodings that no padding can change."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import randomise

from tfkd.config import EncoderConfig
from tfkd.models.encoders.halving import HalvingConv
from tfkd.models.encoders.recurrent import Encoder, join_pairs

FEATURES = 3
COMBINATIONS = [(r, c) for r in ("conv", "pyramid") for c in ("lstm", "gru")]


def encoder(reduction="conv", cell="lstm", time_reduction=4, dropout=0.0):
    layer = Encoder(
        EncoderConfig(
            reduction=reduction,
            time_reduction=time_reduction,
            conv_units=6,
            cell=cell,
            layers=3,
            units=4,
            dropout=dropout,
        )
    )
    layer.build((None, None, FEATURES))
    randomise(layer.trainable_variables, gain=2.0)
    return layer


def random_features(lengths, frames=None, seed=0):
    """[B, T, F], zero beyond each length, as the frontend gives them."""
    rng = np.random.default_rng(seed)
    features = np.zeros((len(lengths), frames or max(lengths), FEATURES), np.float32)
    for row, length in enumerate(lengths):
        features[row, :length] = rng.normal(size=(length, FEATURES))
    return features


@pytest.mark.parametrize(("reduction", "cell"), COMBINATIONS)
def test_padding_changes_nothing(reduction, cell):
    layer = encoder(reduction, cell)
    lengths = [13, 8, 1, 7, 0, 10]
    features = random_features(lengths)
    encoded, encoded_lengths = layer(features, tf.constant(lengths))
    for extra in (1, 2, 3, 9):
        padded = np.pad(features, [(0, 0), (0, extra), (0, 0)])
        got, got_lengths = layer(padded, tf.constant(lengths))
        np.testing.assert_array_equal(got_lengths, encoded_lengths)
        np.testing.assert_allclose(got[:, : encoded.shape[1]], encoded, atol=1e-5)
        assert not np.any(got[:, encoded.shape[1] :])
    for row, length in enumerate(lengths):
        steps = int(encoded_lengths[row])
        assert not np.any(encoded[row, steps:])
        if length:
            alone, alone_lengths = layer(features[row : row + 1, :length], tf.constant([length]))
            assert alone.shape[1] == alone_lengths[0] == steps
            np.testing.assert_allclose(alone[0], encoded[row, :steps], atol=1e-5)


@pytest.mark.parametrize("reduction", ["conv", "pyramid"])
@pytest.mark.parametrize("time_reduction", [1, 2, 4])
def test_time_is_reduced_rounding_up(reduction, time_reduction):
    lengths = list(range(10))
    encoded, encoded_lengths = encoder(reduction, time_reduction=time_reduction)(
        random_features(lengths), tf.constant(lengths)
    )
    expected = [-(-length // time_reduction) for length in lengths]
    np.testing.assert_array_equal(encoded_lengths, expected)
    assert encoded.shape == (10, expected[-1], 8)


@pytest.mark.parametrize(("reduction", "cell"), COMBINATIONS)
def test_every_frame_of_the_utterance_counts_and_none_beyond(reduction, cell):
    layer = encoder(reduction, cell)
    lengths = tf.constant([7, 10])
    features = tf.constant(random_features([7, 10], frames=12))
    with tf.GradientTape() as tape:
        tape.watch(features)
        encoded, encoded_lengths = layer(features, lengths)
        inside = tf.sequence_mask(encoded_lengths, encoded.shape[1])
        total = tf.reduce_sum(tf.square(tf.boolean_mask(encoded, inside)))
    gradient = np.abs(tape.gradient(total, features).numpy()).max(-1)
    assert (gradient[0, :7] > 0).all()
    assert (gradient[1, :10] > 0).all()


def test_halving_conv_by_hand():
    layer = HalvingConv(2)
    layer.build((None, None, FEATURES))
    randomise(layer.trainable_variables)
    features = random_features([5, 4])
    got, lengths = layer(features, tf.constant([5, 4]))
    kernel, bias = (np.asarray(w) for w in layer.conv.weights)
    gamma, beta = (np.asarray(w) for w in layer.norm.weights)
    np.testing.assert_array_equal(lengths, [3, 2])
    assert got.shape == (2, 3, 2)
    framed = np.pad(features, [(0, 0), (1, 1), (0, 0)])
    for row, steps in enumerate([3, 2]):
        for t in range(steps):
            # Output t sees inputs 2t-1, 2t and 2t+1.
            seen = framed[row, 2 * t : 2 * t + 3]
            value = np.einsum("tf,tfu->u", seen, kernel) + bias
            value = (value - value.mean()) / np.sqrt(value.var() + layer.norm.epsilon)
            np.testing.assert_allclose(got[row, t], np.maximum(value * gamma + beta, 0), atol=1e-5)
    assert not np.any(got[1, 2:])


def test_join_pairs_by_hand():
    inputs = tf.reshape(tf.range(20.0), [2, 5, 2])
    joined, lengths = join_pairs(inputs, tf.constant([5, 2]))
    np.testing.assert_array_equal(lengths, [3, 1])
    np.testing.assert_array_equal(joined[0], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]])
    np.testing.assert_array_equal(joined[1, 0], [10, 11, 12, 13])
    even, _ = join_pairs(inputs[:, :4], tf.constant([4, 4]))
    np.testing.assert_array_equal(even[0], [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_a_pyramid_joins_before_all_but_the_first_layer():
    layer = encoder("pyramid")
    inputs = [recurrent.directions[0][0].shape[0] for recurrent in layer.recurrent]
    assert inputs == [FEATURES, 16, 16]
    assert [x.directions[0][0].shape[0] for x in encoder("conv").recurrent] == [6, 8, 8]


def test_a_pyramid_joins_what_is_left_before_its_first_layer():
    layer = encoder("pyramid", time_reduction=16)
    inputs = [recurrent.directions[0][0].shape[0] for recurrent in layer.recurrent]
    assert inputs == [4 * FEATURES, 16, 16]
    features, lengths = random_features([33, 16]), tf.constant([33, 16])
    encoded, encoded_lengths = layer(features, lengths)
    assert encoded.shape == (2, 3, 8)
    np.testing.assert_array_equal(encoded_lengths, [3, 1])


def test_dropout_acts_in_training_only():
    layer = encoder(dropout=0.5)
    features, lengths = random_features([12]), tf.constant([12])
    plain, _ = layer(features, lengths)
    np.testing.assert_array_equal(plain, encoder()(features, lengths)[0])
    dropped, _ = layer(features, lengths, training=True)
    assert 0.2 < np.mean(dropped.numpy() == 0) < 0.8


def test_config_round_trip():
    layer = encoder("pyramid", "gru")
    copy = Encoder.from_config(layer.get_config())
    copy.build((None, None, FEATURES))
    copy.set_weights(layer.get_weights())
    assert copy.config == layer.config
    features, lengths = random_features([6]), tf.constant([6])
    np.testing.assert_array_equal(copy(features, lengths)[0], layer(features, lengths)[0])
    conv = HalvingConv.from_config(HalvingConv(5).get_config())
    assert conv.units == 5
