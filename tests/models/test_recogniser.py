"""The whole recogniser: its size, its files, and the tokens that it never outputs."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_batch, tiny_config, tiny_model

from tfkd.config import ModelConfig, SpecAugmentConfig
from tfkd.models.recogniser import Recogniser, RecogniserOutput
from tfkd.text import EOS_ID, FIRST_PIECE_ID, PAD_ID, SOS_ID, UNK_ID

COMBINATIONS = [
    {"cell": "lstm", "attention": "additive", "reduction": "conv", "ctc": True},
    {"cell": "gru", "attention": "location", "reduction": "conv", "ctc": False},
    {"cell": "lstm", "attention": "location", "reduction": "pyramid", "ctc": False},
    {"cell": "gru", "attention": "additive", "reduction": "pyramid", "delta_orders": 2},
]
each_model = pytest.mark.parametrize("index", range(len(COMBINATIONS)))
each_combination = pytest.mark.parametrize(
    "combination", COMBINATIONS, ids=lambda c: "-".join(str(v) for v in c.values())
)


def call(model, batch):
    return model(batch.inputs())


@functools.cache
def graph_of(index):
    """A random model and its forward pass as a graph for any shape, which is fast."""
    model = tiny_model(**COMBINATIONS[index])
    signature = {
        "waveform": tf.TensorSpec([None, None]),
        "num_samples": tf.TensorSpec([None], tf.int32),
        "token_ids": tf.TensorSpec([None, None, None], tf.int32),
    }
    forward = tf.function(model, input_signature=[signature], autograph=False)
    return model, lambda batch: forward(batch.inputs())


def start(model, batch):
    """Memory and state before the first step."""
    return model.initial_state(*model.encode(batch.waveform, batch.num_samples), max_tokens=9)


def assert_same_outputs(got, expected, atol):
    np.testing.assert_allclose(got.logits, expected.logits, atol=atol)
    np.testing.assert_array_equal(got.encoded_lengths, expected.encoded_lengths)
    assert (got.ctc_logits is None) == (expected.ctc_logits is None)
    if expected.ctc_logits is not None:
        np.testing.assert_allclose(got.ctc_logits, expected.ctc_logits, atol=atol)


@each_combination
def test_the_size_is_known_before_any_data(combination):
    model = Recogniser(tiny_config(**combination), VOCAB_SIZE)
    before, names = model.count_params(), [w.path for w in model.weights]
    call(model, random_batch((0.1,)))
    assert model.count_params() == before
    assert [w.path for w in model.weights] == names
    assert len(set(names)) == len(names)


def test_the_size_by_hand():
    model = Recogniser(tiny_config(cell="lstm", attention="location", ctc=True), VOCAB_SIZE)
    mels, conv, units, vocab = 8, 7, 5, VOCAB_SIZE  # of tiny_config
    encoded, energies, hidden, embedding = 2 * units, 6, 9, 4

    def halving(inputs):
        return 3 * inputs * conv + conv + 2 * conv  # kernel, bias, norm

    def lstm(inputs, units):
        return 4 * units * (inputs + units + 1)

    encoder = halving(mels) + halving(conv)
    encoder += 2 * (lstm(conv, units) + lstm(encoded, units)) + 2 * 2 * encoded  # two norms
    attention = (encoded + hidden + 2) * energies + 5 * 3 + 3 * energies
    speller = vocab * embedding + lstm(embedding + encoded, hidden)
    speller += (hidden + encoded) * vocab + vocab
    head = encoded * vocab + vocab
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert trainable == encoder + attention + speller + head
    assert model.count_params() == trainable + 2 * mels  # mean and scale


def test_the_default_configs_size_by_hand():
    """The sizes that a reader of ModelConfig would compute."""
    model = Recogniser(dataclasses.replace(ModelConfig(), ctc=False), 32)
    encoder = (3 * 80 * 128 + 3 * 128) + (3 * 128 * 128 + 3 * 128)
    encoder += 2 * 4 * 256 * (128 + 256 + 1) + 2 * (2 * 4 * 256 * (512 + 256 + 1)) + 3 * 2 * 512
    attention = 128 * (512 + 256 + 2)
    speller = 32 * 64 + 4 * 256 * (64 + 512 + 256 + 1) + 32 * (256 + 512 + 1)
    assert model.count_params() == encoder + attention + speller + 2 * 80


@each_model
def test_a_keras_file_gives_equal_outputs(index, tmp_path):
    (model, forward), batch = graph_of(index), random_batch(hypotheses=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Recogniser)
    assert loaded.config == model.config
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_outputs(call(loaded, batch), forward(batch), atol=1e-4)


@each_model
def test_a_copy_from_the_config_gives_equal_outputs(index):
    (model, forward), batch = graph_of(index), random_batch()
    copy = Recogniser.from_config(model.get_config())
    assert copy.config == model.config
    assert copy.name == model.name
    copy.set_weights(model.get_weights())
    assert_same_outputs(call(copy, batch), forward(batch), atol=1e-4)


@each_model
def test_special_tokens_are_never_emitted(index):
    (model, forward), batch = graph_of(index), random_batch()
    never = [PAD_ID, UNK_ID, SOS_ID]
    log_probs = tf.nn.log_softmax(forward(batch).logits).numpy()
    memory, state = start(model, batch)
    stepped, _ = model.step(tf.fill([3], SOS_ID), state, memory)
    for values in (log_probs, stepped.numpy()):
        assert (values[..., never] < -1e8).all()
        assert np.isfinite(values).all()
        others = values[..., [EOS_ID, *range(FIRST_PIECE_ID, VOCAB_SIZE)]]
        assert (others > -100).all()
        np.testing.assert_allclose(np.exp(others).sum(-1), 1.0, atol=1e-5)


@each_model
def test_steps_give_the_log_probs_of_teacher_forcing(index):
    (model, forward), batch = graph_of(index), random_batch()
    expected = tf.nn.log_softmax(forward(batch).logits).numpy()[:, 0, :, EOS_ID:]
    assert np.ptp(expected, axis=0).max() > 0.5, "the logits hardly depend on the utterance"
    memory, state = start(model, batch)
    last = np.full(3, SOS_ID, np.int32)
    for u in range(batch.token_ids.shape[2]):
        log_probs, state = model.step(tf.constant(last), state, memory)
        np.testing.assert_allclose(log_probs[:, EOS_ID:], expected[:, u], atol=1e-4)
        last = batch.token_ids[:, 0, u]


@each_model
def test_an_utterance_in_a_batch_is_what_it_is_alone(index):
    (_, forward), batch = graph_of(index), random_batch(hypotheses=2)
    together, padded = forward(batch), forward(batch.padded(555, value=0.5))
    for row in range(3):
        of_padded = RecogniserOutput(*(x if x is None else x[row : row + 1] for x in padded))
        for other in (forward(batch.row(row)), of_padded):
            steps = int(other.encoded_lengths[0])
            assert steps == together.encoded_lengths[row]
            np.testing.assert_allclose(other.logits[0], together.logits[row], atol=1e-4)
            if together.ctc_logits is not None:
                expected = together.ctc_logits[row, :steps]
                np.testing.assert_allclose(other.ctc_logits[0, :steps], expected, atol=1e-4)


@each_combination
def test_every_weight_learns(combination):
    model, batch = tiny_model(gain=1.5, **combination), random_batch()
    with tf.GradientTape() as tape:
        output = model(batch.inputs(), training=True)
        log_probs = tf.nn.log_softmax(output.logits)
        likelihood = tf.gather(log_probs, batch.token_ids, batch_dims=3)
        loss = -tf.reduce_sum(tf.boolean_mask(likelihood, batch.token_ids != PAD_ID))
        if output.ctc_logits is not None:
            loss += tf.reduce_sum(tf.square(output.ctc_logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


def test_targets_are_shifted_so_that_no_step_sees_its_own():
    (_, forward), batch = graph_of(0), random_batch((0.2,))
    expected = forward(batch).logits
    for u in range(batch.token_ids.shape[2]):
        changed = batch.token_ids.copy()
        changed[0, 0, u] = 5 if changed[0, 0, u] != 5 else 6
        got = forward(dataclasses.replace(batch, token_ids=changed)).logits
        np.testing.assert_array_equal(got[:, :, : u + 1], expected[:, :, : u + 1])
        if u + 1 < changed.shape[2]:
            assert np.abs(got[:, :, u + 1 :] - expected[:, :, u + 1 :]).max() > 1e-3


def test_spec_augment_acts_in_training_only():
    config = dataclasses.replace(
        tiny_config(), spec_augment=SpecAugmentConfig(time_masks=9, max_time_share=1.0)
    )
    model, batch = Recogniser(config, VOCAB_SIZE), random_batch()
    plain, _ = model.encode(batch.waveform, batch.num_samples)
    again, _ = model.encode(batch.waveform, batch.num_samples)
    masked, _ = model.encode(batch.waveform, batch.num_samples, training=True)
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - masked).max() > 1e-3


def test_silence_and_next_to_nothing_give_finite_outputs():
    model = tiny_model(ctc=True)
    inputs = {
        "waveform": tf.zeros([3, 400]),
        "num_samples": tf.constant([400, 100, 0]),  # the last two have no whole frame
        "token_ids": tf.fill([3, 1, 2], EOS_ID),
    }
    output = model(inputs)
    np.testing.assert_array_equal(output.encoded_lengths, [1, 0, 0])
    assert np.isfinite(output.logits).all()
    assert np.isfinite(output.ctc_logits).all()
