"""What every family of recognisers must keep, whatever its parts are."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES, WITH_DECODER, family_model
from helpers import VOCAB_SIZE, random_batch, tokenizer

from tfkd.config import DecodingConfig, ModelConfig, from_dict, load_system_configs, to_dict
from tfkd.decoding.decoder import Decoder
from tfkd.errors import ConfigError
from tfkd.models.recogniser import Recogniser, RecogniserOutput
from tfkd.objectives.losses import ctc
from tfkd.text import EOS_ID, FIRST_PIECE_ID, PAD_ID, SOS_ID, UNK_ID, vocab_size_of

CONFIGS = Path(__file__).parents[2] / "configs"
each_family = pytest.mark.parametrize("name", FAMILIES)
each_with_decoder = pytest.mark.parametrize("name", WITH_DECODER)


@functools.cache
def graph_of(name):
    """A random model and its forward pass as a graph for any shape, which is fast."""
    model = family_model(name)
    signature = {
        "waveform": tf.TensorSpec([None, None]),
        "num_samples": tf.TensorSpec([None], tf.int32),
        "token_ids": tf.TensorSpec([None, None, None], tf.int32),
    }
    forward = tf.function(model, input_signature=[signature], autograph=False)
    return model, lambda batch: forward(batch.inputs())


def test_too_many_convolutions_are_refused_by_name():
    config = from_dict(ModelConfig, {"encoder": {"kind": "conv2d_recurrent", "convolutions": 4}})
    with pytest.raises(ConfigError, match="model.encoder.convolutions: 80 features are too few"):
        Recogniser(config, VOCAB_SIZE)


def teacher_forced(forward, batch):
    return tf.nn.log_softmax(forward(batch).logits).numpy()


def assert_same(got, expected, steps=None):
    """Compares outputs of two models; of those of CTC the first `steps` encodings."""
    np.testing.assert_array_equal(got.encoded_lengths, expected.encoded_lengths)
    for name in ("logits", "ctc_logits"):
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            end = steps if name == "ctc_logits" else None
            np.testing.assert_allclose(ours[:, :end], theirs[:, :end], atol=1e-4, rtol=1e-4)


@each_family
def test_a_config_is_read_as_it_was_written(name):
    assert from_dict(ModelConfig, to_dict(FAMILIES[name])) == FAMILIES[name]


@each_family
def test_the_size_is_known_before_any_data(name):
    model = Recogniser(FAMILIES[name], VOCAB_SIZE)
    before, paths = model.count_params(), [weight.path for weight in model.weights]
    model(random_batch((0.1,)).inputs())
    assert model.count_params() == before
    assert [weight.path for weight in model.weights] == paths
    assert len(set(paths)) == len(paths)


@each_family
def test_a_keras_file_gives_equal_outputs(name, tmp_path):
    (model, forward), batch = graph_of(name), random_batch(hypotheses=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Recogniser)
    assert loaded.config == model.config
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same(loaded(batch.inputs()), forward(batch))


@each_family
def test_a_copy_from_the_config_gives_equal_outputs(name):
    (model, forward), batch = graph_of(name), random_batch()
    copy = Recogniser.from_config(model.get_config())
    assert copy.config == model.config
    assert copy.name == model.name
    copy.set_weights(model.get_weights())
    assert_same(copy(batch.inputs()), forward(batch))


@each_with_decoder
def test_special_tokens_are_never_emitted(name):
    (model, forward), batch = graph_of(name), random_batch()
    encoded = model.encode(batch.waveform, batch.num_samples)
    memory, state = model.initial_state(*encoded, max_tokens=9)
    stepped, _ = model.step(tf.fill([3], SOS_ID), state, memory)
    for values in (teacher_forced(forward, batch), stepped.numpy()):
        assert (values[..., [PAD_ID, UNK_ID, SOS_ID]] < -1e8).all()
        assert np.isfinite(values).all()
        others = values[..., [EOS_ID, *range(FIRST_PIECE_ID, VOCAB_SIZE)]]
        assert (others > -100).all()
        np.testing.assert_allclose(np.exp(others).sum(-1), 1.0, atol=1e-5)


@each_with_decoder
def test_targets_are_shifted_so_that_no_step_sees_its_own(name):
    (_, forward), batch = graph_of(name), random_batch((0.2,))
    expected = forward(batch).logits
    for u in range(batch.token_ids.shape[2]):
        changed = batch.token_ids.copy()
        changed[0, 0, u] = 5 if changed[0, 0, u] != 5 else 6
        got = forward(dataclasses.replace(batch, token_ids=changed)).logits
        np.testing.assert_array_equal(got[:, :, : u + 1], expected[:, :, : u + 1])
        if u + 1 < changed.shape[2]:
            assert np.abs(got[:, :, u + 1 :] - expected[:, :, u + 1 :]).max() > 1e-3


@each_with_decoder
def test_steps_give_the_log_probs_of_teacher_forcing(name):
    (model, forward), batch = graph_of(name), random_batch()
    expected = teacher_forced(forward, batch)[:, 0]
    usable = expected[..., expected[0, 0] > -1e8]
    assert np.ptp(usable, axis=0).max() > 0.1, "the logits hardly depend on the utterance"
    steps = batch.token_ids.shape[2]
    encoded = model.encode(batch.waveform, batch.num_samples)
    memory, state = model.initial_state(*encoded, steps)
    last = np.full(3, SOS_ID, np.int32)
    for u in range(steps):
        log_probs, state = model.step(tf.constant(last), state, memory)
        np.testing.assert_allclose(log_probs, expected[:, u], atol=1e-4, rtol=1e-4)
        last = batch.token_ids[:, 0, u]


@each_with_decoder
def test_each_of_k_hypotheses_is_what_it_is_alone(name):
    (_, forward), batch = graph_of(name), random_batch(hypotheses=3)
    together = forward(batch).logits
    for k in range(3):
        inputs = batch.inputs()
        alone = type(batch)(batch.waveform, batch.num_samples, inputs["token_ids"][:, k : k + 1])
        np.testing.assert_allclose(forward(alone).logits[:, 0], together[:, k], atol=1e-4)


@each_family
def test_an_utterance_in_a_batch_is_what_it_is_alone(name):
    (_, forward), batch = graph_of(name), random_batch(hypotheses=2)
    together, padded = forward(batch), forward(batch.padded(555, value=0.5))
    for row in range(3):
        of_padded = RecogniserOutput(*(x if x is None else x[row : row + 1] for x in padded))
        for other in (forward(batch.row(row)), of_padded):
            steps = int(other.encoded_lengths[0])
            assert steps == together.encoded_lengths[row]
            own = RecogniserOutput(*(x if x is None else x[row : row + 1] for x in together))
            assert_same(other, own, steps)


def loss_of(model, batch, training=True):
    """Cross-entropy per token, or the loss of CTC where that is all there is."""
    output = model(batch.inputs(), training=training)
    if output.logits is None:
        weights = tf.ones(batch.token_ids.shape[:2])
        return ctc(output.ctc_logits, output.encoded_lengths, batch.token_ids, weights), output
    likelihood = tf.gather(tf.nn.log_softmax(output.logits), batch.token_ids, batch_dims=3)
    return -tf.reduce_mean(tf.boolean_mask(likelihood, batch.token_ids != PAD_ID)), output


@each_family
def test_every_weight_learns(name):
    model, batch = family_model(name, gain=1.0), random_batch()

    with tf.GradientTape() as tape:
        loss, output = loss_of(model, batch)
        if output.ctc_logits is not None:
            loss += tf.reduce_sum(tf.square(output.ctc_logits))
    weights = [variable.value for variable in model.trainable_variables]
    for weight, gradient in zip(
        model.trainable_variables, tape.gradient(loss, weights), strict=True
    ):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.slow
@each_family
def test_a_batch_is_learned(name):
    """From Keras' own initial weights, as a training starts."""
    keras.utils.set_random_seed(0)
    model, batch = Recogniser(FAMILIES[name], VOCAB_SIZE), random_batch()
    optimizer = keras.optimizers.Adam(2e-2)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss, _ = loss_of(model, batch)
        weights = model.trainable_variables
        if WITH_DECODER.count(name):  # A head beside the decoder is not in the loss.
            weights = [weight for weight in weights if "/ctc/" not in weight.path]
        optimizer.apply(tape.gradient(loss, [w.value for w in weights]), weights)
        return loss

    first = float(step())
    for _ in range(60):
        step()
    assert float(loss_of(model, batch, training=False)[0]) < 0.4 * first


@each_with_decoder
def test_the_search_gives_log_probs_of_teacher_forcing(name):
    (model, forward), batch = graph_of(name), random_batch()
    config = DecodingConfig(beam_width=3, num_hypotheses=3, max_tokens=6, min_tokens=2)
    decoder = Decoder(model, tokenizer(), config)
    result = decoder.decode(tf.constant(batch.waveform), tf.constant(batch.num_samples))
    assert (result.num_tokens.numpy() > 0).all()
    hypotheses = type(batch)(batch.waveform, batch.num_samples, result.token_ids.numpy())
    log_probs = teacher_forced(forward, hypotheses)
    of_tokens = np.take_along_axis(log_probs, hypotheses.token_ids[..., None], -1)[..., 0]
    expected = np.where(hypotheses.token_ids == PAD_ID, 0.0, of_tokens)
    np.testing.assert_allclose(result.token_log_probs, expected, atol=1e-4, rtol=1e-4)
    assert (result.coverage.numpy() >= 0).all()
    assert (result.coverage.numpy() <= 1 + 1e-5).all()


def test_the_families_to_compare_have_equal_budgets():
    """About a tenth of the digits teacher's 2.75 M."""
    paths = sorted((CONFIGS / "families").glob("*.yaml"))
    assert len(paths) == 10
    for path in paths:
        (system,) = load_system_configs(path).values()
        size = Recogniser(system.model, vocab_size_of(system.tokenizer)).count_params()
        assert 0.25e6 < size < 0.3e6, f"{path.stem}: {size}"


def test_paper_sizes():
    """Table 1 of Mun'im et al. 2019: 16.8, 6.1 and 1.7 M; 2.7 and 9.8 times fewer."""
    sizes, recurrent = {}, {}
    for path in sorted((CONFIGS / "paper").glob("*.yaml")):
        (system,) = load_system_configs(path).values()
        model = Recogniser(system.model, vocab_size_of(system.tokenizer))
        sizes[path.stem] = model.count_params()
        units, layers = system.model.decoder.units, system.model.decoder.layers
        # Convolutions and recurrent layers alone, each decoder layer reading `units` inputs.
        recurrent[path.stem] = model.encoder.count_params() + layers * 3 * units * (2 * units + 2)
    assert {name: round(size / 1e6, 1) for name, size in sizes.items()} == {
        "teacher": 16.8, "student-mid": 6.1, "student-small": 1.7,
    }  # fmt: skip
    assert {name: round(size / 1e6, 2) for name, size in recurrent.items()} == {
        "teacher": 16.81, "student-mid": 6.10, "student-small": 1.69,
    }  # fmt: skip
    assert round(sizes["teacher"] / sizes["student-mid"], 1) == 2.7
    assert round(sizes["teacher"] / sizes["student-small"], 1) == 9.8
