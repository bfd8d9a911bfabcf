"""Attention against hand-computed values: energies, normalisation, and masked padding."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import randomise

from tfkd.config import AttentionConfig
from tfkd.layers.attention import (
    LIMIT,
    AdditiveAttention,
    located_by_windows,
    location_matrix,
    odds_of,
)

KINDS = ("additive", "location")
ENCODED, QUERY, UNITS, FILTERS, WIDTH = 4, 3, 5, 2, 3


def attention(kind, gain=2.0):
    config = AttentionConfig(kind=kind, units=UNITS, location_filters=FILTERS, location_width=WIDTH)
    layer = AdditiveAttention(config)
    layer.build(ENCODED, QUERY)
    randomise(layer.trainable_variables, gain=gain)
    return layer


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_sums(lengths, hypotheses, steps, seed=0):
    """Sums of two earlier alignments [B * K, S]: zero beyond each utterance's end."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((len(lengths), hypotheses, steps), np.float32)
    for row, length in enumerate(lengths):
        if length:
            sums[row, :, :length] = 2 * rng.dirichlet(np.ones(length), hypotheses)
    return sums.reshape(-1, steps)


def numpy_alignment(layer, query, attention_sum, encoded):
    """The alignment [S] of one query to encodings [S, D], step by step."""
    weights = {w.name: np.asarray(w, np.float64) for w in layer.weights}
    energies = np.zeros(len(encoded))
    for s, encoding in enumerate(encoded):
        key = encoding @ weights["key_kernel"] + weights["bias"]
        activation = np.clip(key, -LIMIT, LIMIT)
        activation += np.clip(query @ weights["query_kernel"], -LIMIT, LIMIT)
        if layer.config.kind == "location":
            located = np.zeros(FILTERS)
            for offset in range(WIDTH):
                place = s + offset - WIDTH // 2
                if 0 <= place < len(encoded):
                    located += attention_sum[place] * weights["filters"][offset, 0]
            activation = activation + located @ weights["filter_kernel"]
        energies[s] = np.tanh(activation) @ weights["energy"]
    exponentials = np.exp(energies - energies.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hypotheses", [1, 3])
def test_alignment_and_context_by_hand(kind, hypotheses):
    layer = attention(kind)
    lengths, steps = [6, 1, 4], 6
    encoded, query = draw(3, steps, ENCODED), draw(3 * hypotheses, QUERY, seed=1)
    sums = random_sums(lengths, hypotheses, steps)
    memory = layer.memory(tf.constant(encoded), tf.constant(lengths))
    context, alignment = layer(tf.constant(query), tf.constant(sums), memory)
    assert context.shape == (3 * hypotheses, ENCODED)
    assert alignment.shape == (3 * hypotheses, steps)
    np.testing.assert_allclose(tf.reduce_sum(alignment, -1), 1.0, atol=1e-6)
    for n in range(3 * hypotheses):
        row = n // hypotheses
        own = encoded[row, : lengths[row]]
        expected = numpy_alignment(layer, query[n], sums[n], own)
        np.testing.assert_allclose(alignment[n, : len(own)], expected, atol=1e-6)
        assert not np.any(alignment[n, len(own) :])
        np.testing.assert_allclose(context[n], expected @ own, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_alone_is_attended_to_as_in_a_batch(kind):
    """A device computes what location filters see in another way."""
    layer, encoded, query = attention(kind), draw(2, 6, ENCODED), draw(6, QUERY, seed=1)
    lengths = tf.constant([6, 4])
    sums = random_sums(lengths.numpy(), 3, 6)
    in_batch = layer(query, sums, layer.memory(encoded, lengths))
    for row in range(2):
        mine = slice(3 * row, 3 * row + 3)
        memory = layer.memory(encoded[row:][:1], lengths[row:][:1])
        for found, expected in zip(layer(query[mine], sums[mine], memory), in_batch, strict=True):
            np.testing.assert_allclose(found, expected[mine], atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_what_location_filters_see_is_the_product_with_their_matrix(width, steps):
    filters, sums = draw(width, 1, FILTERS), draw(4, steps)
    expected = sums @ location_matrix(filters, steps)
    np.testing.assert_allclose(located_by_windows(sums, filters), expected, atol=1e-5)


# Keys of up to 2.7, 16 and 158, queries of up to 4.4, 88 and 264.
@pytest.mark.parametrize(("keys", "queries"), [(1, 3), (6, 60), (60, 180)])
@pytest.mark.parametrize("kind", KINDS)
def test_alignments_are_right_however_large_keys_and_queries_are(kind, keys, queries):
    layer = attention(kind, gain=1.0)
    layer.energy.assign(layer.energy / 10)  # So that no place takes everything.
    encoded, query = keys * draw(3, 6, ENCODED), queries * draw(6, QUERY, seed=1)
    sums = random_sums([6, 6, 6], 2, 6)
    _, alignment = layer(query, sums, layer.memory(tf.constant(encoded), tf.constant([6, 6, 6])))
    expected = [numpy_alignment(layer, query[n], sums[n], encoded[n // 2]) for n in range(6)]
    np.testing.assert_allclose(alignment, expected, atol=1e-5)


def test_odds_hold_what_is_within_the_limit_and_not_much_more():
    extreme = tf.constant([-LIMIT, LIMIT])
    product = odds_of(extreme) * odds_of(extreme)
    assert np.isfinite(product).all()
    assert np.all(product >= np.finfo(np.float32).tiny)
    assert np.isinf(odds_of(1.1 * extreme)[1] ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_places_there_is_no_context(kind):
    layer = attention(kind)
    memory = layer.memory(tf.zeros([3, 0, ENCODED]), tf.zeros([3], tf.int32))
    context, alignment = layer(draw(6, QUERY), tf.zeros([6, 0]), memory)
    np.testing.assert_array_equal(context, np.zeros((6, ENCODED)))
    assert alignment.shape == (6, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_by_xla_it_gives_the_same(kind):
    layer = attention(kind)
    lengths = tf.constant([6, 1, 4])
    encoded, query = tf.constant(draw(3, 6, ENCODED)), tf.constant(draw(6, QUERY, seed=1))
    sums = tf.constant(random_sums([6, 1, 4], 2, 6))

    def run():
        return layer(query, sums, layer.memory(encoded, lengths))

    for got, expected in zip(tf.function(run, jit_compile=True)(), run(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_whatever_it_holds(kind):
    layer = attention(kind)
    lengths = [5, 2]
    encoded, query = draw(2, 5, ENCODED), draw(2, QUERY, seed=1)
    sums = random_sums(lengths, 1, 5)
    context, alignment = layer(query, sums, layer.memory(encoded, tf.constant(lengths)))
    padded = np.pad(encoded, [(0, 0), (0, 4), (0, 0)])
    for row, length in enumerate(lengths):
        padded[row, length:] = 9.0
    memory = layer.memory(padded, tf.constant(lengths))
    got_context, got = layer(query, np.pad(sums, [(0, 0), (0, 4)]), memory)
    np.testing.assert_allclose(got_context, context, atol=1e-6)
    np.testing.assert_allclose(got[:, :5], alignment, atol=1e-6)
    assert not np.any(got[:, 5:])


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_without_encodings_gives_finite_values(kind):
    layer = attention(kind)
    memory = layer.memory(tf.zeros([1, 3, ENCODED]), tf.constant([0]))
    context, alignment = layer(draw(1, QUERY), np.zeros((1, 3), np.float32), memory)
    assert np.isfinite(context).all()
    np.testing.assert_allclose(tf.reduce_sum(alignment), 1.0, atol=1e-6)


def test_only_location_aware_attention_reads_the_earlier_alignments():
    encoded, query = draw(1, 5, ENCODED), draw(1, QUERY, seed=1)
    changes = {}
    for kind in KINDS:
        layer = attention(kind)
        memory = layer.memory(encoded, tf.constant([5]))
        alignments = [layer(query, tf.one_hot([place], 5), memory)[1].numpy() for place in (0, 4)]
        changes[kind] = np.abs(alignments[0] - alignments[1]).max()
    assert changes["additive"] == 0
    assert changes["location"] > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind):
    layer = attention(kind, gain=1.0)
    encoded, query, sums = draw(2, 5, ENCODED), draw(2, QUERY, seed=1), random_sums([5, 3], 1, 5)
    with tf.GradientTape() as tape:
        memory = layer.memory(encoded, tf.constant([5, 3]))
        context, _ = layer(query, sums, memory)
        total = tf.reduce_sum(context * draw(2, ENCODED, seed=2))
    for weight, gradient in zip(
        layer.trainable_variables, tape.gradient(total, layer.trainable_variables), strict=True
    ):
        assert np.abs(gradient).max() > 1e-5, weight.name


def test_config_round_trip():
    layer = attention("location")
    copy = AdditiveAttention.from_config(layer.get_config())
    assert copy.config == layer.config
