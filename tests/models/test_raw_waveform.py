"""The learned frontend: its frames, what it learns of log-mel, and how it goes to a device."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.config import FrontendConfig, RawWaveformConfig, from_dict
from tfkd.errors import ConfigError
from tfkd.models.frontend.log_mel import LogMel
from tfkd.models.frontend.raw_waveform import RawWaveform

SMALL = {"sample_rate_hz": 8000, "num_features": 8, "filters": 24, "units": 24}


def layer(**config) -> RawWaveform:
    frontend = RawWaveform({**SMALL, **config})
    frontend.build()
    return frontend


def sweeps(count: int = 12, seconds: float = 0.6, rate_hz: int = 8000):
    """Tones that rise and fall, at several levels, in batches of audio."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    start, end = rng.uniform(150, 3500, (2, count, 1))
    phase = 2 * np.pi * (start * time + (end - start) * time**2 / (2 * seconds))
    level = rng.uniform(0.02, 0.5, (count, 1))
    waveform = (level * np.sin(phase) + 1e-3 * rng.normal(size=phase.shape)).astype(np.float32)
    num_samples = rng.integers(len(time) // 2, len(time) + 1, count).astype(np.int32)
    return [
        {"waveform": waveform[i : i + 4], "num_samples": num_samples[i : i + 4]}
        for i in range(0, count, 4)
    ]


@pytest.mark.parametrize("rate_hz", [16000, 8000, 11025, 22050])
def test_its_frames_are_those_of_log_mel(rate_hz):
    """11,025 Hz have hops of 110 samples, which a quarter does not divide."""
    raw = layer(sample_rate_hz=rate_hz)
    log_mel = LogMel(FrontendConfig(sample_rate_hz=rate_hz, max_hz=rate_hz / 2, num_mels=8))
    log_mel.build()
    rng = np.random.default_rng(0)
    waveform = rng.normal(size=(3, rate_hz // 2)).astype(np.float32)
    num_samples = np.array([rate_hz // 2, rate_hz // 5, rate_hz // 50], np.int32)
    features, num_frames = raw(waveform, num_samples)
    expected, expected_frames = log_mel(waveform, num_samples)
    np.testing.assert_array_equal(num_frames, expected_frames)
    assert features.shape[1] >= num_frames[0]
    assert raw.hop_seconds == log_mel.hop_seconds
    for row, count in enumerate(num_frames.numpy()):
        assert not features[row, count:].numpy().any()


def test_a_frame_sees_its_window_alone():
    raw, rng = layer(), np.random.default_rng(0)
    waveform = rng.normal(size=(1, 2000)).astype(np.float32)
    before = raw(waveform, np.array([2000], np.int32))[0].numpy()
    frame, hop, window = 7, 80, 200
    outside = waveform.copy()
    outside[:, : frame * hop] = 9.0
    outside[:, frame * hop + window :] = -9.0
    after = raw(outside, np.array([2000], np.int32))[0].numpy()
    np.testing.assert_allclose(after[0, frame], before[0, frame], atol=1e-5)
    assert np.abs(after[0, frame + 1] - before[0, frame + 1]).max() > 1e-2


def test_it_learns_to_predict_log_mel():
    """Better than the mean, which is off by 1 on standardised features, on audio not heard."""
    keras.utils.set_random_seed(0)
    frontend, batches = layer(transfer_epochs=60), sweeps(24)
    log_mel = LogMel(FrontendConfig(sample_rate_hz=8000, num_mels=8, min_hz=0.0, max_hz=4000.0))
    log_mel.build()
    log_mel.adapt(batches[1:])

    def error():
        found, num_frames = frontend(**batches[0])
        expected, _ = log_mel(**batches[0])
        longest = int(tf.reduce_max(num_frames))
        inside = tf.sequence_mask(num_frames)
        squares = tf.square(found[:, :longest] - expected[:, :longest])
        return float(tf.reduce_mean(tf.boolean_mask(squares, inside)))

    before = error()
    frontend.adapt(iter(batches[1:]))
    after = error()
    assert after < 0.5, before
    assert after < 0.6 * before


def test_without_transfer_nothing_is_learned_beforehand():
    frontend = layer(transfer_epochs=0)
    before = [weight.numpy() for weight in frontend.weights]
    frontend.adapt(sweeps(4))
    for found, expected in zip(frontend.weights, before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_groups_of_a_device_give_the_same():
    frontend, rng = layer(filters=30), np.random.default_rng(0)
    waveform = rng.normal(size=(2, 1600)).astype(np.float32)
    together = frontend.features(tf.constant(waveform), None)
    for row in range(2):
        alone = frontend.features(tf.constant(waveform[row : row + 1]), None)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-4)


def test_a_filter_longer_than_its_window_is_refused():
    with pytest.raises(ConfigError, match="filter_ms: cannot exceed window_ms"):
        from_dict(RawWaveformConfig, {"filter_ms": 30.0})
