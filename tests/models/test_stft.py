"""The linear spectrogram against numpy's transform."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfkd.config import StftConfig
from tfkd.models.frontend.stft import Stft


def layer(**config):
    stft = Stft(StftConfig(**config))
    stft.build()
    return stft


@pytest.mark.parametrize("rate_hz", [16000, 8000, 22050, 12800])
@pytest.mark.parametrize("log", [True, False])
def test_magnitudes_are_those_of_numpy(rate_hz, log):
    """20 ms are 320, 160, 441 and 256 samples: with odd factors 5, 5, 441 and 1."""
    stft = layer(sample_rate_hz=rate_hz, log=log)
    window, hop = round(0.02 * rate_hz), round(0.01 * rate_hz)
    waveform = np.random.default_rng(0).normal(size=(2, 5 * window)).astype(np.float32)
    features, num_frames = stft(tf.constant(waveform), tf.constant([5 * window, 2 * window]))
    assert features.shape[-1] == window // 2 + 1
    np.testing.assert_array_equal(num_frames, [(5 * window - window) // hop + 1, window // hop + 1])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    for row, frames in enumerate(num_frames.numpy()):
        for frame in range(frames):
            cut = waveform[row, frame * hop : frame * hop + window]
            expected = np.abs(np.fft.rfft(cut.astype(np.float64) * hann))
            expected = np.log(expected + 1e-3) if log else expected
            np.testing.assert_allclose(features[row, frame], expected, atol=2e-3)
        assert not features[row, frames:].numpy().any()


@pytest.mark.parametrize("rate_hz", [16000, 22050])
def test_a_device_hears_the_same(rate_hz, tmp_path):
    """TFLite's transform of one sample, as of the sequences of an odd window, is not the sample."""
    stft = layer(sample_rate_hz=rate_hz)
    waveform = np.random.default_rng(0).normal(0, 0.1, [1, rate_hz // 2]).astype(np.float32)
    module, num_samples = tf.Module(), tf.constant([waveform.size])
    module.weights = [variable.value for variable in stft.variables]
    module.heard = tf.function(
        lambda waveform: {"features": stft(waveform, num_samples)[0]},
        input_signature=[tf.TensorSpec([1, None], name="waveform")],
    )
    signatures = {"serving_default": module.heard.get_concrete_function()}
    tf.saved_model.save(module, str(tmp_path), signatures)
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    run = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
    found, expected = run(waveform=waveform), module.heard(waveform)
    np.testing.assert_allclose(found["features"], expected["features"], atol=5e-3)


def test_frames_are_as_far_apart_as_their_whole_samples():
    assert layer(sample_rate_hz=22050).hop_seconds == 220 / 22050
    assert layer(sample_rate_hz=16000).hop_seconds == 0.01


def test_the_papers_window_gives_161_bins():
    assert layer().num_features == 161


def test_statistics_standardise():
    stft = layer(sample_rate_hz=8000)
    rng = np.random.default_rng(0)
    waveform = tf.constant(rng.normal(size=(1, 8000)).astype(np.float32))
    stft.adapt([{"waveform": waveform, "num_samples": tf.constant([8000])}])
    standardised, _ = stft(waveform, tf.constant([8000]))
    frames = standardised[0, :99].numpy()
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, atol=1e-3)
