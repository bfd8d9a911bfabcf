"""Makes sounds that are not speech to be recognised: noise, hum, music and babble.

Each function returns float32 [N] with a root mean square of one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tfkd.config import Sound

# Coloured noise is cut from a long noise that is made once, a hundred times faster than filtering
# noise for each example. This is its length.
_NOISE_SAMPLES = 2**20
# The power of a noise falls with the frequency as 1 / f ** exponent.
_EXPONENTS: dict[Sound, float] = {"white": 0.0, "pink": 1.0, "brown": 2.0}
_LOWEST_HZ = 20.0
_TABLE_SIZE = 4096
_VOICES = (1, 8)
# With this many voices, the words of each cannot be understood.
_ENOUGH_VOICES = 4

# Returns a random utterance of the corpus, drawn with the generator.
Speech = Callable[[np.random.Generator], np.ndarray]


def sound(
    kind: Sound, num_samples: int, rate_hz: int, generator: np.random.Generator, speech: Speech
) -> np.ndarray:
    """Makes a random sound of a kind.

    Args:
      kind: white, pink or brown noise (power falls as 1, 1/f, 1/f^2); mains hum; music; or babble,
        a mixture of utterances of the corpus whose words cannot be understood.
      num_samples: its length.
      rate_hz: sample rate.
      generator: of all random numbers.
      speech: draws the utterances of babble.
    """
    match kind:
        case "hum":
            return _at_unit_power(_hum(num_samples, rate_hz, generator))
        case "music":
            return _at_unit_power(_music(num_samples, rate_hz, generator))
        case "babble":
            return _at_unit_power(_babble(num_samples, generator, speech))
        case _:
            recording = _noise(_EXPONENTS[kind], rate_hz)
            start = int(generator.integers(len(recording)))
            places = np.arange(start, start + num_samples)
            return _at_unit_power(recording.take(places, mode="wrap"))


def at_level(waveform: np.ndarray, level_db: float) -> np.ndarray:
    """Scales a sound of unit power to a level in dBFS, where 0 is a root mean square of one."""
    return waveform * np.float32(10 ** (level_db / 20))


def power(waveform: np.ndarray) -> float:
    """Computes the mean square of a waveform; 0 if it is empty."""
    return float(np.dot(waveform, waveform)) / max(1, waveform.size)


@functools.lru_cache(maxsize=len(_EXPONENTS))
def _noise(exponent: float, rate_hz: int) -> np.ndarray:
    """Makes Gaussian noise of a colour that is periodic, so it can be repeated without a click."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(_NOISE_SAMPLES))
    frequencies = np.fft.rfftfreq(_NOISE_SAMPLES, 1 / rate_hz)
    spectrum *= np.maximum(frequencies, _LOWEST_HZ) ** (-exponent / 2)
    spectrum[0] = 0
    return np.fft.irfft(spectrum).astype(np.float32)


def _hum(num_samples: int, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """The mains at 50 or 60 Hz with overtones of random strength."""
    frequency = generator.choice([50.0, 60.0]) * generator.uniform(0.99, 1.01)
    strengths = generator.uniform(size=12) / np.arange(1, 13)
    return _tone(_cycle(strengths), frequency, num_samples, rate_hz)


def _music(num_samples: int, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """One to three instruments at a common tempo, with or without a drum."""
    beat = round(rate_hz * generator.uniform(0.15, 0.6))
    lowest_hz = generator.uniform(50.0, 250.0)
    drum = _drum(beat, rate_hz, generator)
    waveform = np.resize(drum, num_samples)
    for _ in range(int(generator.integers(1, 4))):
        register_hz = lowest_hz * 2 ** int(generator.integers(0, 4))
        waveform += _instrument(num_samples, rate_hz, beat, register_hz, generator)
    return waveform


def _instrument(
    num_samples: int, rate_hz: int, beat: int, lowest_hz: float, generator: np.random.Generator
) -> np.ndarray:
    """Single tones or chords of up to four, within an octave, that die away sooner or later."""
    cycle = _modulated(_cycle(generator.uniform(size=8) / np.arange(1, 9) ** 1.5), generator)
    decay = 10 ** generator.uniform(-1, 1) / rate_hz
    most_tones, rest = int(generator.integers(1, 5)), generator.uniform(0.0, 0.5)
    waveform = np.zeros(num_samples, np.float32)
    for start in range(0, num_samples, beat):
        if generator.random() < rest:
            continue
        length = min(beat * int(generator.integers(1, 4)), num_samples - start)
        envelope = np.exp(-decay * np.arange(length, dtype=np.float32))
        for step in generator.integers(0, 13, int(generator.integers(1, most_tones + 1))):
            note = _tone(cycle, lowest_hz * 2 ** (step / 12), length, rate_hz)
            waveform[start : start + length] += envelope * note
    return waveform


def _drum(num_samples: int, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """A burst of noise that dies away; a third of the music has none."""
    strength = max(0.0, generator.uniform(-1.0, 2.0))
    fall = np.exp(-generator.uniform(10.0, 60.0) / rate_hz * np.arange(num_samples))
    noise = _noise(_EXPONENTS["white"], rate_hz)[:num_samples]
    return (strength * fall).astype(np.float32) * noise


def _babble(num_samples: int, generator: np.random.Generator, speech: Speech) -> np.ndarray:
    """One to seven voices, each repeated from somewhere in its middle, near and far.

    Half of the voices are played backwards, and all of them where they are so few that their words
    would be heard: what is left sounds like speech and says nothing.
    """
    waveform = np.zeros(num_samples, np.float32)
    count = int(generator.integers(*_VOICES))
    for _ in range(count):
        voice = speech(generator)
        is_backwards = count < _ENOUGH_VOICES or generator.random() < 0.5
        start, level_db = int(generator.integers(max(1, voice.size))), generator.uniform(-10, 0)
        if voice.size:
            voice = np.roll(voice[::-1] if is_backwards else voice, start)
            waveform += at_level(_at_unit_power(np.resize(voice, num_samples)), level_db)
    return waveform


def _cycle(strengths: np.ndarray) -> np.ndarray:
    """One period of a tone whose overtones have these strengths."""
    phase = 2 * np.pi * np.arange(_TABLE_SIZE) / _TABLE_SIZE
    overtones = np.arange(1, len(strengths) + 1)
    return (strengths @ np.sin(np.outer(overtones, phase))).astype(np.float32)


def _modulated(cycle: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A period whose phase swings with it, which is what synthesisers and bells sound like."""
    phase = np.arange(_TABLE_SIZE)
    swing = generator.uniform(0.0, 4.0) * np.sin(
        2 * np.pi * int(generator.integers(1, 5)) * phase / _TABLE_SIZE
    )
    places = phase + (swing * _TABLE_SIZE / (2 * np.pi)).astype(np.int64)
    return cycle.take(places, mode="wrap")


def _tone(cycle: np.ndarray, frequency: float, num_samples: int, rate_hz: int) -> np.ndarray:
    step = frequency / rate_hz * _TABLE_SIZE
    places = (step * np.arange(num_samples)).astype(np.int64) % _TABLE_SIZE
    return cycle.take(places)


def _at_unit_power(waveform: np.ndarray) -> np.ndarray:
    mean_square = power(waveform)
    return waveform / np.float32(np.sqrt(mean_square)) if mean_square > 0 else waveform
