"""What is computed otherwise for the caches of a CPU gives what the plain formulation gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.config import DecodingConfig, SystemConfig, from_dict
from tfkd.decoding.decoder import Decoder
from tfkd.layers import formulation, matmul
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Truth
from tfkd.text import CharacterTokenizer

TOKENIZER = CharacterTokenizer(" abdeikmosu")
# The kernels of 32 units' gates have 128 columns, which are widened for a CPU.
SIZES = {
    "encoder": {"layers": 1, "units": 32, "conv_units": 16, "time_reduction": 2},
    "decoder": {"units": 32, "embedding_units": 12},
}


@pytest.fixture(params=["additive", "location"])
def system(request, tiny_settings) -> SystemConfig:
    model = {**tiny_settings["model"], **SIZES, "attention": {"kind": request.param, "units": 24}}
    return from_dict(SystemConfig, {**tiny_settings, "model": model})


def made(system: SystemConfig, is_for_cpu: bool, monkeypatch) -> Recogniser:
    monkeypatch.setattr(formulation, "suits_cpu", lambda: is_for_cpu)
    keras.utils.set_random_seed(1)
    return Recogniser(system.model, TOKENIZER.vocab_size)


def audio() -> tuple[tf.Tensor, tf.Tensor]:
    waveform = 0.1 * np.random.default_rng(0).standard_normal([3, 6000])
    return tf.constant(waveform, tf.float32), tf.constant([6000, 5000, 3000])


@pytest.mark.slow
def test_a_search_finds_the_same(system, monkeypatch):
    found = []
    for is_for_cpu in (True, False):
        model = made(system, is_for_cpu, monkeypatch)
        config = DecodingConfig(beam_width=3, num_hypotheses=3, max_tokens=8)
        found.append(Decoder(model, TOKENIZER, config).decode(*audio()))
    np.testing.assert_array_equal(found[0].token_ids, found[1].token_ids)
    np.testing.assert_allclose(found[0].log_prob, found[1].log_prob, atol=1e-4)


def test_a_training_step_has_the_same_gradients(system, monkeypatch):
    objective = Truth(ctc_weight=0.3)
    waveform, num_samples = audio()
    batch = {
        "waveform": waveform,
        "num_samples": num_samples,
        "token_ids": tf.constant([[[5, 6, 3]], [[7, 3, 0]], [[8, 9, 3]]]),
        "weights": tf.ones([3, 1]),
    }
    losses, gradients = [], []
    for is_for_cpu in (True, False):
        model = made(system, is_for_cpu, monkeypatch)
        with tf.GradientTape() as tape:
            loss = objective.loss(batch, model(batch, training=True))["loss"]
        losses.append(float(loss))
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, plain in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5, rtol=1e-3)


def test_kernels_are_widened_for_a_cpu_alone(monkeypatch):
    kernel = tf.ones([4, 128])
    assert matmul.widened(kernel).shape[-1] > 128
    monkeypatch.setattr(formulation, "suits_cpu", lambda: False)
    assert matmul.widened(kernel).shape[-1] == 128
