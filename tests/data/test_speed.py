"""Speed changes length and pitch by its factor, and each factor is drawn as often."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfkd.data.augmentation import SpeedChange, draw_speed


def play(waveform: np.ndarray, factor: float) -> np.ndarray:
    # Longer than needed, as where the corpus holds longer utterances.
    return SpeedChange(factor, waveform.size + 1000)(waveform)


def lengths(samples: int, factor: float) -> tuple[int, int]:
    """The length at another speed; where it is nearly whole, rounding may go either way."""
    exact = samples / factor
    return math.floor(exact - 1e-3), math.floor(exact + 1e-3)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_speed_changes_length_and_pitch(factor):
    rate_hz, samples = 8000, 8000
    tone = np.sin(2 * np.pi * 400 * np.arange(samples) / rate_hz).astype(np.float32)
    changed = play(tone, factor)
    assert changed.dtype == np.float32
    assert changed.size in lengths(samples, factor)
    assert changed.size == SpeedChange(factor, samples).length(samples)
    loudest = np.abs(np.fft.rfft(changed * np.hanning(changed.size))).argmax()
    assert loudest * rate_hz / changed.size == pytest.approx(400 * factor, abs=2)


def test_twice_the_speed_takes_every_other_sample():
    waveform = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    np.testing.assert_array_equal(play(waveform, 2.0), waveform[:1000:2])


def test_half_the_speed_puts_means_between_samples():
    np.testing.assert_array_equal(play(np.float32([0, 2, 6]), 0.5), [0, 1, 2, 4, 6, 6])


def test_speed_one_changes_nothing():
    waveform = np.random.default_rng(0).standard_normal(777).astype(np.float32)
    np.testing.assert_array_equal(play(waveform, 1.0), waveform)


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.3])
def test_speed_interpolates_linearly_to_the_last_sample(factor):
    waveform = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    changed = play(waveform, factor)
    position = np.arange(changed.size) * factor
    expected = np.interp(position, np.arange(waveform.size), waveform)
    np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_each_factor_is_drawn_as_often():
    drawn = draw_speed([f"utterance {n}" for n in range(3000)], (0.9, 1.0, 1.125), seed=5)
    # Five standard deviations of a fair draw.
    assert np.abs(np.bincount(drawn, minlength=3) - 1000).max() < 130


def test_each_seed_draws_other_speeds_and_order_does_not_matter():
    names = [f"utterance {n}" for n in range(100)]
    first, again, second = (draw_speed(names, (0.9, 1.1), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 30 < np.count_nonzero(first != second) < 70
    np.testing.assert_array_equal(draw_speed(names[::-1], (0.9, 1.1), 1), first[::-1])
