"""Sounds have the power, the colour and the pitch that their names say; rooms decay as asked."""

from __future__ import annotations

import numpy as np
import pytest

from tfkd.data.augmentation.reverberation import impulse_response, reverberate
from tfkd.data.augmentation.sounds import at_level, sound

RATE_HZ = 8000
KINDS = ("white", "pink", "brown", "hum", "music", "babble")


def tone(generator: np.random.Generator) -> np.ndarray:
    """The utterance of a corpus: a tone whose pitch the generator draws."""
    hz = generator.uniform(300, 3000)
    return (0.2 * np.sin(2 * np.pi * hz * np.arange(3000) / RATE_HZ)).astype(np.float32)


def make(kind: str, num_samples: int = 20_000, seed: int = 0) -> np.ndarray:
    return sound(kind, num_samples, RATE_HZ, np.random.default_rng(seed), tone)


def band_db(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Mean power spectral density of a band, in decibels."""
    spectrum = np.square(np.abs(np.fft.rfft(waveform)))
    frequencies = np.fft.rfftfreq(waveform.size, 1 / RATE_HZ)
    return 10 * np.log10(spectrum[(frequencies >= low_hz) & (frequencies < high_hz)].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_each_sound_has_unit_power_and_follows_its_generator(kind):
    first, again, other = make(kind), make(kind), make(kind, seed=1)
    assert first.dtype == np.float32
    assert first.shape == (20_000,)
    assert np.mean(np.square(first, dtype=np.float64)) == pytest.approx(1, rel=1e-3)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_may_be_one_sample_or_none(kind):
    assert make(kind, 0).shape == (0,)
    assert np.isfinite(make(kind, 1)).all()


@pytest.mark.parametrize(("kind", "fall_db"), [("white", 0), ("pink", 3.01), ("brown", 6.02)])
def test_power_of_coloured_noise_falls_by_so_much_an_octave(kind, fall_db):
    waveform = make(kind, 400_000)
    octaves = [band_db(waveform, low, 2 * low) for low in (200, 400, 800, 1600)]
    np.testing.assert_allclose(-np.diff(octaves), fall_db, atol=0.3)


def test_hum_lies_on_the_overtones_of_the_mains():
    waveform = make("hum", RATE_HZ * 4)
    spectrum = np.abs(np.fft.rfft(waveform))
    loudest = np.fft.rfftfreq(waveform.size, 1 / RATE_HZ)[spectrum.argmax()]
    fundamentals = loudest / np.arange(1, 13)
    assert (np.abs(fundamentals[:, None] / [50, 60] - 1) < 0.012).any()


def test_babble_is_made_of_one_to_seven_voices():
    counts = set()
    for seed in range(60):
        asked = []

        def speech(generator, asked=asked):
            asked.append(1)
            return tone(generator)

        sound("babble", 5000, RATE_HZ, np.random.default_rng(seed), speech)
        counts.add(len(asked))
    assert counts == {1, 2, 3, 4, 5, 6, 7}


def test_a_voice_that_could_be_understood_is_played_backwards():
    """A rising ramp falls slowly and jumps up where it is played backwards."""
    ramp = np.linspace(-1, 1, 1000, dtype=np.float32)
    for seed in range(60):
        asked = []

        def speech(generator, asked=asked):
            asked.append(1)
            return ramp

        heard = sound("babble", 3000, RATE_HZ, np.random.default_rng(seed), speech)
        if len(asked) < 4:
            assert (np.diff(heard) < 0).mean() > 0.98


def test_level_is_that_of_the_root_mean_square():
    waveform = at_level(make("white"), -40.0)
    assert np.sqrt(np.mean(np.square(waveform))) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("t60", [0.1, 0.4])
def test_a_room_rings_for_its_time_at_its_loudness(t60):
    response = impulse_response(t60, 6.0, RATE_HZ, np.random.default_rng(0)).astype(np.float64)
    assert response.size == round(t60 * RATE_HZ)
    assert response @ response == pytest.approx(1, rel=1e-5)
    direct, tail = response[0] ** 2, response[1:] @ response[1:]
    assert 10 * np.log10(direct / tail) == pytest.approx(6, abs=0.01)
    # Schroeder's backward integral falls by 30 dB in half the time.
    energy = np.cumsum(np.square(response[:0:-1]))[::-1]
    fall_db = 10 * np.log10(energy[len(energy) // 2] / energy[0])
    assert fall_db == pytest.approx(-30, abs=3)


@pytest.mark.parametrize("response", [2, 160, 1601])
@pytest.mark.parametrize("samples", [1, 100, 6404, 20000])
def test_reverberation_is_convolution_cut_to_the_length_that_it_had(samples, response):
    generator = np.random.default_rng(0)
    waveform, room = (generator.standard_normal(n).astype(np.float32) for n in (samples, response))
    heard = reverberate(waveform, room)
    assert heard.dtype == np.float32
    expected = np.convolve(waveform.astype(np.float64), room)[:samples]
    np.testing.assert_allclose(heard, expected, atol=1e-4)
