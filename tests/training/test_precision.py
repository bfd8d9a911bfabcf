"""Reduced precision and XLA train as float32 does, nearly; what is kept is float32."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES, family_model
from helpers import VOCAB_SIZE, random_batch, tiny_config

from tfkd.config import AttentionConfig, DecoderConfig, TrainingConfig
from tfkd.decoding.run_writing import save_model
from tfkd.decoding.runs import MODEL, load_model
from tfkd.errors import ConfigError, TrainingError
from tfkd.exporting.export import export
from tfkd.layers import attention_scan
from tfkd.layers.recurrent import BidirectionalRNN, Order
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Objective, Truth
from tfkd.objectives.losses import ctc, sequence_cross_entropy
from tfkd.training.checkpoints import restore_checkpoint
from tfkd.training.loop import train
from tfkd.training.trainable import compile_for

# Bits of the mantissa, the implied one included.
SIGNIFICANT_BITS = {"mixed_float16": 11, "mixed_bfloat16": 8}
COMBINATIONS = [("lstm", "additive", "conv"), ("gru", "location", "pyramid")]


def targets_of(batch) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(batch.token_ids), tf.ones(batch.token_ids.shape[:2])


def loss_and_gradients(model: Recogniser, scale: float):
    """The joint loss, and its gradients by `scale` for float16 to hold them."""
    batch = random_batch(seconds=(0.6, 0.5, 0.3), hypotheses=2)
    token_ids, weights = targets_of(batch)
    inputs = {"waveform": batch.waveform, "num_samples": batch.num_samples}
    with tf.GradientTape() as tape:
        output = model({**inputs, "token_ids": token_ids})
        loss = sequence_cross_entropy(output.logits, token_ids, weights)
        loss += ctc(output.ctc_logits, output.encoded_lengths, token_ids, weights)
        scaled = loss * scale
    gradients = tape.gradient(scaled, model.trainable_variables)
    assert output.logits.dtype == output.ctc_logits.dtype == loss.dtype == tf.float32
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    return float(loss), [gradient / scale for gradient in gradients]


@pytest.mark.slow
@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
@pytest.mark.parametrize(("cell", "attention", "reduction"), COMBINATIONS)
def test_loss_and_gradients_are_near_those_of_float32(cell, attention, reduction, precision):
    keras.utils.set_random_seed(0)
    config = tiny_config(cell=cell, attention=attention, reduction=reduction)
    exact = Recogniser(config, VOCAB_SIZE)
    coarse = Recogniser(config, VOCAB_SIZE, precision=precision)
    coarse.set_weights(exact.get_weights())
    assert {v.dtype for v in coarse.trainable_variables} == {"float32"}
    loss, gradients = loss_and_gradients(exact, 1.0)
    found_loss, found = loss_and_gradients(coarse, 1024.0)
    unit = 2.0 ** -SIGNIFICANT_BITS[precision]
    assert found_loss != loss  # or it was computed in float32
    assert found_loss == pytest.approx(loss, rel=4 * unit)
    difference = tf.linalg.global_norm([a - b for a, b in zip(found, gradients, strict=True)])
    assert float(difference / tf.linalg.global_norm(gradients)) < 8 * unit


@pytest.mark.parametrize("name", FAMILIES)
def test_a_global_policy_of_keras_changes_nothing(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = family_model(name)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


def test_the_loss_of_float16_is_scaled_whoever_compiles():
    model = Recogniser(tiny_config(), VOCAB_SIZE, precision="mixed_float16")
    model.compile("adam", Truth())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.compile("adam", Truth(), auto_scale_loss=False)
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model = Recogniser(tiny_config(), VOCAB_SIZE, precision="mixed_bfloat16")
    model.compile("adam", Truth())
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_the_search_computes_in_float32_whatever_the_training_does():
    model = Recogniser(tiny_config(), VOCAB_SIZE, precision="mixed_bfloat16")
    batch = random_batch()
    memory, state = model.initial_state(
        *model.encode(batch.waveform, batch.num_samples), max_tokens=9
    )
    log_probs, state = model.step(tf.fill([3], 2), state, memory)
    floats = [t for t in tf.nest.flatten([log_probs, state, memory]) if t.dtype.is_floating]
    assert {t.dtype for t in floats} == {tf.float32}


# --- what is kept


@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
def test_a_saved_model_knows_nothing_of_the_precision(precision, tmp_path):
    model = Recogniser(tiny_config(), VOCAB_SIZE, precision=precision)
    assert model.encoder.compute_dtype != "float32"
    save_model(model, tmp_path / MODEL)
    loaded = load_model(tmp_path / MODEL)
    layers = list(loaded._flatten_layers())
    assert len(layers) > 5
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    for found, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def runs(tiny_system, prepared, tmp_path_factory):
    """Of each precision: a run of two epochs, and what training returned."""
    model = dataclasses.replace(tiny_system.model, ctc=False)
    found = {}
    for precision in ("float32", *SIGNIFICANT_BITS):
        training = dataclasses.replace(
            tiny_system.training, epochs=2, ctc_weight=0.0, precision=precision
        )
        system = dataclasses.replace(tiny_system, model=model, training=training)
        out = tmp_path_factory.mktemp(precision)
        found[precision] = train(system, prepared["train"], prepared["valid"], out)
    return found


def losses_of(run) -> list[float]:
    lines = (run.directory / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
def test_training_follows_that_of_float32(runs, precision):
    assert losses_of(runs[precision]) == pytest.approx(losses_of(runs["float32"]), rel=0.02)


@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_of_many_frames_are_near_those_of_float32(cell, precision):
    """All of one sign, so that a sum in 16 bits would stop growing."""
    dtype = {"mixed_float16": tf.float16, "mixed_bfloat16": tf.bfloat16}[precision]
    layer = BidirectionalRNN(cell, 4)
    inputs = np.random.default_rng(0).normal(1.0, 1.0, (16, 400, 3)).astype(np.float32)
    layer.build(inputs.shape)

    def gradients(dtype):
        with tf.GradientTape() as tape:
            weights = [[tf.cast(w, dtype) for w in each] for each in layer.directions]
            tape.watch(weights)
            values = tf.constant(inputs, dtype)
            outputs = layer._run(values, Order.forward(values), weights[0])
        return tape.gradient(outputs, weights[0])

    for found, expected in zip(gradients(dtype), gradients(tf.float32), strict=True):
        difference = np.abs(tf.cast(found, tf.float32) - expected).max()
        assert difference / np.abs(expected).max() < 4 * 2.0 ** -SIGNIFICANT_BITS[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
def test_attention_of_many_steps_is_added_up_in_float32(precision):
    """It spreads evenly, so that the share of a step is below a unit of the sum in bfloat16."""
    places, steps = 300, 600

    class Seen(AttentionDecoder):
        """Gives what the location filters see at the last step of teacher forcing."""

        def call(self, encoded):
            memory = self.memory(encoded, tf.constant([places]))
            token_gates = tf.gather(memory.token_gates, tf.ones([steps, 1], tf.int32))
            kernel, attention = memory.gate_kernel, memory.attention
            tape = attention_scan._forward("lstm", token_gates, kernel, attention)
            return tf.cast(tape.located[-1], tf.float32)

    def seen_at_last(dtype):
        keras.utils.set_random_seed(0)
        config = AttentionConfig("location", units=4, location_filters=2, location_width=3)
        decoder = Seen(DecoderConfig(units=4), config, VOCAB_SIZE, dtype=dtype)
        decoder.build(3)
        decoder.attention.energy.assign(tf.zeros([4]))
        return decoder(tf.zeros([1, places, 3]))

    expected = seen_at_last("float32")
    difference = np.abs(seen_at_last(precision) - expected).max() / np.abs(expected).max()
    assert difference < 4 * 2.0 ** -SIGNIFICANT_BITS[precision]


@pytest.mark.slow
def test_the_loss_scale_is_resumed_and_steps_are_counted(runs):
    run = runs["mixed_float16"]
    model = Recogniser(run.system.model, run.tokenizer.vocab_size, precision="mixed_float16")
    compile_for(model, run.system.training, 1)
    model.optimizer.dynamic_scale.assign(1.0)
    progress = restore_checkpoint(run.directory / "checkpoints", model)
    steps = int(model.optimizer.iterations.numpy())
    assert progress.epochs == 2
    assert steps == int(model.optimizer.step_counter.numpy()) > 0
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**15


@pytest.mark.slow
def test_exports_of_a_student_trained_in_float16_say_what_keras_says(
    runs, prepared, export_config, tmp_path
):
    formats = ("savedmodel", "tflite-float32")
    config = dataclasses.replace(export_config, formats=formats)
    reports = export(runs["mixed_float16"], tmp_path, config, prepared["valid"])
    assert [report.identical for report in reports] == [1.0, 1.0]


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_is_halved():
    config, batch = tiny_config(ctc=False), random_batch()
    model = Recogniser(config, VOCAB_SIZE, precision="mixed_float16")
    compile_for(model, TrainingConfig(precision="mixed_float16", ctc_weight=0.0), 10)
    model.optimizer.dynamic_scale.assign(2.0**40)
    before = model.get_weights()
    token_ids, weights = targets_of(batch)
    losses = model.train_step(
        {
            "waveform": tf.constant(batch.waveform),
            "num_samples": tf.constant(batch.num_samples),
            "token_ids": token_ids,
            "weights": weights,
        }
    )
    assert np.isfinite(losses["loss"])
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**39
    assert int(model.optimizer.iterations.numpy()) == 0
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", *SIGNIFICANT_BITS])
def test_a_gradient_that_is_never_finite_ends_training_and_names_the_batch(
    precision, tiny_system, prepared, tmp_path, monkeypatch
):
    """At a loss that is finite."""

    @tf.custom_gradient
    def spoilt(loss):
        return tf.identity(loss), lambda upstream: upstream * np.nan

    def loss(self, batch, output, *, real=Objective.loss):
        losses = real(self, batch, output)
        return {**losses, "loss": spoilt(losses["loss"])}

    monkeypatch.setattr(Objective, "loss", loss)
    training = dataclasses.replace(
        tiny_system.training, epochs=9, batch_size=1, ctc_weight=0.0, precision=precision
    )
    system = dataclasses.replace(tiny_system, training=training)
    expected = "gradient, however little" if precision == "mixed_float16" else "or its gradient"
    with pytest.raises(TrainingError, match=f"{expected}.* not finite .* on utterances train-"):
        train(system, prepared["train"], prepared["valid"], tmp_path)
    assert not (tmp_path / "complete.json").exists()


# --- XLA


def fitted(xla: bool) -> tuple[list[float], list[np.ndarray]]:
    """Losses of three epochs on one batch, and the weights after them."""
    keras.utils.set_random_seed(0)
    config, batch = tiny_config(attention="location"), random_batch(hypotheses=2)
    no_masks = dataclasses.replace(config.spec_augment, frequency_masks=0, time_masks=0)
    model = Recogniser(dataclasses.replace(config, spec_augment=no_masks), VOCAB_SIZE)
    compile_for(model, TrainingConfig(xla=xla, warmup_steps=1), 10)
    token_ids, weights = targets_of(batch)
    batches = tf.data.Dataset.from_tensors(
        {
            "utterance_id": tf.constant(["a", "b", "c"]),
            "waveform": batch.waveform,
            "num_samples": batch.num_samples,
            "token_ids": token_ids,
            "weights": weights,
        }
    )
    history = model.fit(batches, epochs=3, shuffle=False, verbose=0)
    return history.history["loss"], model.get_weights()


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU can")
def test_xla_in_bfloat16_is_refused_on_a_cpu_before_there_is_a_folder(
    tiny_system, prepared, tmp_path
):
    training = dataclasses.replace(tiny_system.training, xla=True, precision="mixed_bfloat16")
    system = dataclasses.replace(tiny_system, training=training)
    with pytest.raises(ConfigError, match="cannot multiply bfloat16 matrices on a CPU"):
        train(system, prepared["train"], prepared["valid"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_xla_gives_the_same_steps():
    (losses, weights), (found, found_weights) = fitted(xla=False), fitted(xla=True)
    assert losses[2] < losses[0]
    assert found == pytest.approx(losses, rel=1e-4)
    for one, other in zip(weights, found_weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)
