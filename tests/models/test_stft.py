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
