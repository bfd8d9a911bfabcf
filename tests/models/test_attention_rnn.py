"""Decoding step by step is teacher forcing, and each hypothesis is what it is alone."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_token_ids, randomise

from tfkd.config import AttentionConfig, DecoderConfig
from tfkd.layers.attention import LIMIT
from tfkd.layers.cells import forget_gate_bias
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.text import SOS_ID

COMBINATIONS = list(itertools.product(("lstm", "gru"), ("additive", "location")))
ENCODED, UNITS, EMBEDDING = 4, 6, 3
LENGTHS = [7, 1, 4]


def decoder(cell, kind, dropout=0.0, units=UNITS):
    layer = AttentionDecoder(
        DecoderConfig(cell=cell, units=units, embedding_units=EMBEDDING, dropout=dropout),
        AttentionConfig(kind=kind, units=5, location_filters=2, location_width=3),
        VOCAB_SIZE,
    )
    layer.build(ENCODED)
    randomise(layer.trainable_variables, gain=2.0)
    return layer


def random_encoded(lengths=LENGTHS, seed=0):
    """[B, S, D], zero beyond each length, as the encoder gives them."""
    rng = np.random.default_rng(seed)
    encoded = np.zeros((len(lengths), max(lengths), ENCODED), np.float32)
    for row, length in enumerate(lengths):
        encoded[row, :length] = rng.normal(size=(length, ENCODED))
    return encoded


def random_inputs(hypotheses):
    """[B, K, U] inputs of the steps: sos, then tokens."""
    token_ids = random_token_ids(np.random.default_rng(1), len(LENGTHS), hypotheses)
    token_ids[:, :, 0] = SOS_ID
    return token_ids


def states(layer, encoded, hypotheses=1):
    """The state of `hypotheses` empty hypotheses of each utterance."""
    state = layer.initial_state(encoded, 9)
    return tf.nest.map_structure(lambda x: tf.repeat(x, hypotheses, 0), state)


def step_by_step(layer, token_ids, encoded, lengths):
    """Logits [B, K, U, V] through `step`, and the last state."""
    batch, hypotheses, steps = token_ids.shape
    encoded = tf.constant(encoded)
    memory = layer.memory(encoded, tf.constant(lengths))
    state = states(layer, encoded, hypotheses)
    logits = []
    for u in range(steps):
        last = tf.constant(token_ids[:, :, u].reshape(-1))
        of_step, state = layer.step(last, state, memory)
        logits.append(tf.reshape(of_step, [batch, hypotheses, VOCAB_SIZE]))
    return tf.stack(logits, 2), state


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
@pytest.mark.parametrize("hypotheses", [1, 3])
def test_steps_give_the_logits_of_teacher_forcing(cell, kind, hypotheses):
    layer = decoder(cell, kind)
    token_ids, encoded = random_inputs(hypotheses), random_encoded()
    expected = layer(token_ids, encoded, tf.constant(LENGTHS))
    assert expected.shape == (*token_ids.shape, VOCAB_SIZE)
    assert np.ptp(expected, axis=2).max() > 0.5, "the logits hardly depend on the step"
    got, _ = step_by_step(layer, token_ids, encoded, LENGTHS)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def assert_that_gradients_agree(layer):
    """That of teacher forcing, by hand, with that of `step`, by TensorFlow."""
    token_ids, encoded = random_inputs(2), tf.constant(random_encoded())
    upstream = np.random.default_rng(2).normal(size=(*token_ids.shape, VOCAB_SIZE))

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch(encoded)
            total = tf.reduce_sum(run() * tf.constant(upstream, tf.float32))
        return tape.gradient(total, [encoded, *layer.trainable_variables])

    got = gradients(lambda: layer(token_ids, encoded, tf.constant(LENGTHS)))
    expected = gradients(lambda: step_by_step(layer, token_ids, encoded, LENGTHS)[0])
    names = ["encoded", *(variable.path for variable in layer.trainable_variables)]
    for name, ours, theirs in zip(names, got, expected, strict=True):
        assert np.abs(theirs).max() > 1e-3, name
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
@pytest.mark.parametrize("units", [UNITS, 32])  # with 32, the kernel of the gates is widened
def test_the_gradient_is_that_of_the_steps(cell, kind, units):
    assert_that_gradients_agree(decoder(cell, kind, units=units))


@pytest.mark.parametrize("kind", ["additive", "location"])
def test_the_gradient_is_that_of_the_steps_where_queries_are_beyond_their_limit(kind):
    layer = decoder("lstm", kind)
    # Keys that oppose them, so that no tanh is at its end.
    layer.attention.query_kernel.assign(30 * layer.attention.query_kernel)
    layer.attention.bias.assign(tf.fill([5], -LIMIT + 1))
    assert_that_gradients_agree(layer)


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
def test_each_of_k_hypotheses_is_what_it_is_alone(cell, kind):
    layer = decoder(cell, kind)
    token_ids, encoded = random_inputs(3), random_encoded()
    together = layer(token_ids, encoded, tf.constant(LENGTHS))
    for row, k in np.ndindex(len(LENGTHS), 3):
        end = LENGTHS[row]
        alone = layer(
            token_ids[row : row + 1, k : k + 1], encoded[row : row + 1, :end], tf.constant([end])
        )
        np.testing.assert_allclose(alone[0, 0], together[row, k], atol=1e-5)


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
def test_padding_changes_nothing(cell, kind):
    layer = decoder(cell, kind)
    token_ids, encoded = random_inputs(2), random_encoded()
    expected = layer(token_ids, encoded, tf.constant(LENGTHS))
    padded = np.pad(encoded, [(0, 0), (0, 5), (0, 0)])
    np.testing.assert_allclose(layer(token_ids, padded, tf.constant(LENGTHS)), expected, atol=1e-5)
    longer = np.pad(token_ids, [(0, 0), (0, 0), (0, 2)])
    np.testing.assert_allclose(
        layer(longer, encoded, tf.constant(LENGTHS))[:, :, :-2], expected, atol=1e-5
    )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_recurrence_is_that_of_a_keras_cell(cell):
    """Its input is the token's embedding beside the last context."""
    layer = decoder(cell, "additive")
    kernel = np.concatenate([layer.token_kernel, layer.context_kernel])
    bias = layer.bias if cell == "lstm" else np.stack([layer.bias, layer.recurrent_bias])
    theirs = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}[cell](UNITS)
    theirs.build((None, EMBEDDING + ENCODED))
    theirs.set_weights([kernel, layer.recurrent_kernel, bias])

    token_ids, encoded = random_inputs(1), random_encoded()
    memory = layer.memory(tf.constant(encoded), tf.constant(LENGTHS))
    state = states(layer, tf.constant(encoded))
    hiddens = [tf.zeros([3, UNITS])] * (2 if cell == "lstm" else 1)
    context, alignments = tf.zeros([3, ENCODED]), tf.zeros([3, max(LENGTHS)])
    for u in range(4):
        last = token_ids[:, 0, u]
        inputs = tf.concat([tf.gather(layer.embedding, last), context], -1)
        output, hiddens = theirs(inputs, hiddens)
        context, alignment = layer.attention(output, alignments, memory.attention)
        alignments += alignment
        expected = tf.concat([output, context], -1) @ layer.output_kernel
        logits, state = layer.step(tf.constant(last), state, memory)
        np.testing.assert_allclose(logits, expected + layer.output_bias, atol=1e-5)
    np.testing.assert_allclose(state.attention_sum, alignments, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(state.attention_sum, -1), 4.0, atol=1e-5)
    np.testing.assert_array_equal(state.peak_frame, tf.argmax(alignment, -1))


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
def test_the_state_is_the_whole_state(cell, kind):
    """Reordering the states of hypotheses reorders their futures: nothing is kept elsewhere."""
    layer = decoder(cell, kind)
    token_ids, encoded = random_inputs(3), random_encoded()
    _, state = step_by_step(layer, token_ids, encoded, LENGTHS)
    memory = layer.memory(tf.constant(encoded), tf.constant(LENGTHS))
    last = tf.constant([4, 5, 6] * 3)
    expected, _ = layer.step(last, state, memory)
    order = np.array([2, 0, 1, 5, 3, 4, 8, 6, 7])  # within each utterance
    reordered = tf.nest.map_structure(lambda x: tf.gather(x, order), state)
    got, _ = layer.step(tf.gather(last, order), reordered, memory)
    np.testing.assert_allclose(got, expected.numpy()[order], atol=1e-5)


@pytest.mark.parametrize(("cell", "kind"), COMBINATIONS)
def test_gradients_are_those_of_unrolled_steps(cell, kind):
    layer = decoder(cell, kind)
    token_ids, encoded = random_inputs(2), tf.constant(random_encoded())
    upstream = np.random.default_rng(2).normal(size=(*token_ids.shape, VOCAB_SIZE))

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch(encoded)
            total = tf.reduce_sum(run() * upstream)
        return tape.gradient(total, [encoded, *layer.trainable_variables])

    def unrolled():
        memory = layer.memory(encoded, tf.constant(LENGTHS))
        state, logits = states(layer, encoded, 2), []
        for u in range(token_ids.shape[2]):
            of_step, state = layer.step(tf.reshape(token_ids[:, :, u], [-1]), state, memory)
            logits.append(tf.reshape(of_step, [len(LENGTHS), 2, VOCAB_SIZE]))
        return tf.stack(logits, 2)

    forced = tf.function(lambda: layer(token_ids, encoded, tf.constant(LENGTHS)), autograph=False)
    for name, got, expected in zip(
        ["encoded", *(w.path for w in layer.trainable_variables)],
        gradients(forced),
        gradients(unrolled),
        strict=True,
    ):
        got, expected = tf.convert_to_tensor(got), tf.convert_to_tensor(expected)
        assert np.abs(expected).max() > 1e-3, name
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_dropout_acts_in_training_only():
    layer = decoder("lstm", "additive", dropout=0.5)
    token_ids, encoded = random_inputs(1), random_encoded()
    plain = layer(token_ids, encoded, tf.constant(LENGTHS))
    without = decoder("lstm", "additive")(token_ids, encoded, tf.constant(LENGTHS))
    np.testing.assert_array_equal(plain, without)
    dropped = layer(token_ids, encoded, tf.constant(LENGTHS), training=True)
    assert np.abs(dropped - plain).max() > 0.1


def test_forget_gates_start_open():
    np.testing.assert_array_equal(
        forget_gate_bias("lstm")([8], "float32"), [0, 0, 1, 1, 0, 0, 0, 0]
    )
    np.testing.assert_array_equal(forget_gate_bias("gru")([6], "float32"), np.zeros(6))


def test_config_round_trip():
    layer = decoder("gru", "location")
    copy = AttentionDecoder.from_config(layer.get_config())
    assert copy.config == layer.config
    assert copy.attention.config == layer.attention.config
    assert copy.vocab_size == VOCAB_SIZE
