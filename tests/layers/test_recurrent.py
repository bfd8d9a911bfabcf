"""Our recurrent layers are those of Keras: outputs and all gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import randomise

from tfkd.layers.cells import gru_gates, gru_state, lstm_gates, lstm_states
from tfkd.layers.recurrent import BidirectionalRNN, Order, gru_scan, lstm_scan

CELLS = ("lstm", "gru")
UNITS, FEATURES = 4, 3


def pair(cell, seed=0, units=UNITS, features=FEATURES):
    """Our layer with random weights, and Keras's with the same ones."""
    ours = BidirectionalRNN(cell, units)
    ours.build((None, None, features))
    randomise(ours.trainable_variables, seed=seed)
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    theirs = keras.layers.Bidirectional(layer(units, return_sequences=True))
    theirs.build((None, None, features))
    theirs.set_weights(as_keras(cell, ours.get_weights()))
    return ours, theirs


def as_keras(cell, weights):
    """Our weights, or their gradients, in the shape of Keras's."""
    if cell == "lstm":
        return weights
    joined = []
    for start in (0, 4):  # Keras stacks the two biases of a direction.
        kernel, recurrent_kernel, bias, recurrent_bias = weights[start : start + 4]
        joined += [kernel, recurrent_kernel, np.stack([bias, recurrent_bias])]
    return joined


def random_inputs(batch, frames, seed=0, features=FEATURES):
    return np.random.default_rng(seed).normal(size=(batch, frames, features)).astype(np.float32)


def outputs_and_gradients(run, layer, inputs, upstream):
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = run(inputs)
        total = tf.reduce_sum(outputs * upstream)
    gradients = tape.gradient(total, [inputs, *layer.trainable_variables])
    return outputs.numpy(), [g.numpy() for g in gradients]


# Kernels of 128 columns are widened, and inputs of few features projected step by step, for speed
# and memory.
@pytest.mark.parametrize(
    ("cell", "units", "features"),
    [
        ("lstm", 4, 3), ("gru", 4, 3), ("lstm", 32, 3), ("gru", 128, 3),
        ("lstm", 4, 9), ("gru", 4, 9), ("lstm", 32, 40), ("gru", 128, 120),
    ],
)  # fmt: skip
def test_outputs_and_gradients_are_those_of_keras(cell, units, features):
    ours, theirs = pair(cell, units=units, features=features)
    lengths = np.array([6, 1, 4, 6], np.int32)
    inputs = random_inputs(4, 6, features=features)
    upstream = random_inputs(4, 6, seed=1)[..., :1] * np.linspace(-1, 1, 2 * units)
    mask = tf.sequence_mask(lengths, 6)
    inside = tf.cast(mask, tf.float32)[..., None]

    got, gradients = outputs_and_gradients(lambda x: ours(x, lengths), ours, inputs, upstream)
    # Beyond the end Keras repeats the last state of the forward direction, and we give zeros.
    expected, expected_gradients = outputs_and_gradients(
        lambda x: theirs(x, mask=mask) * inside, theirs, inputs, upstream
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(gradients[0], expected_gradients[0], atol=1e-5)
    of_weights = as_keras(cell, gradients[1:])
    assert len(of_weights) == len(expected_gradients) - 1 == 6
    for name, ours_, theirs_ in zip(
        theirs.weights, of_weights, expected_gradients[1:], strict=True
    ):
        assert np.abs(theirs_).max() > 1e-2, name.path
        np.testing.assert_allclose(ours_, theirs_, atol=2e-5, err_msg=name.path)


@pytest.mark.parametrize("cell", CELLS)
def test_an_utterance_in_a_batch_is_what_it_is_alone(cell):
    ours, theirs = pair(cell)
    lengths = [5, 0, 1, 7, 3]
    inputs = random_inputs(5, 7)
    # What lies beyond the end is not always zero.
    together = ours(tf.constant(inputs), tf.constant(lengths)).numpy()
    assert np.isfinite(together).all()
    for row, length in enumerate(lengths):
        assert not together[row, length:].any()
        if length:
            alone = theirs(tf.constant(inputs[row : row + 1, :length])).numpy()[0]
            np.testing.assert_allclose(together[row, :length], alone, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_beyond_the_end_no_gradient_flows(cell):
    ours, _ = pair(cell)
    lengths = tf.constant([5, 0, 1])
    upstream = np.ones((3, 6, 2 * UNITS), np.float32)
    _, (of_inputs, *of_weights) = outputs_and_gradients(
        lambda x: ours(x, lengths), ours, random_inputs(3, 6), upstream
    )
    for row, length in enumerate(lengths):
        assert not of_inputs[row, length:].any()
        assert of_inputs[row, :length].all()
    assert all(np.isfinite(g).all() for g in of_weights)


@pytest.mark.parametrize("cell", CELLS)
def test_an_utterance_without_frames_has_no_say_in_the_weights(cell):
    ours, _ = pair(cell)
    _, gradients = outputs_and_gradients(
        lambda x: ours(x, tf.constant([0, 0])), ours, random_inputs(2, 3), 1.0
    )
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_with_unknown_shapes_gives_the_same(cell):
    ours, _ = pair(cell)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, FEATURES], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def traced(inputs, lengths):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = ours(inputs, lengths)
        return outputs, tape.gradient(outputs, [inputs, *ours.trainable_variables])

    for batch, frames in ((3, 6), (1, 2), (2, 1)):
        inputs = random_inputs(batch, frames)
        lengths = np.arange(batch, dtype=np.int32) % (frames + 1)
        lengths[-1] = frames
        outputs, gradients = traced(inputs, lengths)
        eager, eager_gradients = outputs_and_gradients(
            lambda x, n=lengths: ours(x, n), ours, inputs, 1.0
        )
        np.testing.assert_allclose(outputs, eager, atol=1e-6)
        for got, expected in zip(gradients, eager_gradients, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_of_the_cell_is_the_first_step_of_the_scan(cell):
    rng = np.random.default_rng(0)
    gates = {"lstm": 4, "gru": 3}[cell] * UNITS

    def draw(*shape):
        return tf.constant(rng.normal(size=shape), tf.float32)

    inputs, kernel, bias = draw(3, 2, FEATURES), draw(FEATURES, gates), draw(gates)
    recurrent_kernel, recurrent_bias = draw(UNITS, gates), draw(gates)
    projected, order = inputs @ kernel + bias, Order.forward(inputs)
    hidden = state = tf.zeros([3, UNITS])
    for step in range(2):
        if cell == "lstm":
            scan = lstm_scan(inputs, kernel, bias, recurrent_kernel, *order)
            now = lstm_gates(projected[:, step] + hidden @ recurrent_kernel, UNITS)
            hidden, state = lstm_states(now, state)
        else:
            scan = gru_scan(inputs, kernel, bias, recurrent_kernel, recurrent_bias, *order)
            recurrent = hidden @ recurrent_kernel + recurrent_bias
            now = gru_gates(projected[:, step], recurrent, UNITS)
            hidden = gru_state(now, hidden)
        np.testing.assert_allclose(hidden, scan[:, step], atol=1e-6)


def test_an_lstm_starts_with_open_forget_gates():
    layer = BidirectionalRNN("lstm", UNITS)
    layer.build((None, None, FEATURES))
    for weight in layer.weights:
        if weight.name.endswith("_bias"):
            np.testing.assert_array_equal(weight, np.repeat([0, 1, 0, 0], UNITS))


@pytest.mark.parametrize("cell", CELLS)
def test_a_keras_file_keeps_layer_and_weights(cell, tmp_path):
    ours, _ = pair(cell)
    inputs = keras.Input([None, FEATURES])
    lengths = keras.Input([], dtype="int32")
    model = keras.Model([inputs, lengths], ours(inputs, lengths))
    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras")
    arguments = [tf.constant(random_inputs(2, 4)), tf.constant([4, 2])]
    np.testing.assert_array_equal(loaded(arguments), model(arguments))
    np.testing.assert_allclose(loaded(arguments), ours(*arguments), atol=1e-6)
    (copy,) = [x for x in loaded.layers if isinstance(x, BidirectionalRNN)]
    assert (copy.cell, copy.units) == (cell, UNITS)
