"""Simulates rooms: reverberation by an exponentially decaying impulse response."""

from __future__ import annotations

import numpy as np

_DECAY_DB = 60.0
# Length of a block with its tail, in impulse responses: four is the fastest.
_BLOCK_RESPONSES = 4


def impulse_response(
    t60_seconds: float,
    direct_to_reverberant_db: float,
    rate_hz: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Makes the impulse response [M] float32 of a room: direct sound, then decaying noise.

    Its energy is one, so a long sound keeps about its loudness.

    Args:
      t60_seconds: time in which the reverberation decays by 60 dB, and its duration.
      direct_to_reverberant_db: ratio of the energies of direct sound and reverberation.
      rate_hz: sample rate.
      generator: of the noise.
    References:
      Moorer 1979, "About this reverberation business", Computer Music Journal 3(2).
    """
    num_samples = max(2, round(t60_seconds * rate_hz))
    fall = 10 ** (-_DECAY_DB / 20 * np.arange(1, num_samples) / num_samples)
    tail = fall * generator.standard_normal(num_samples - 1)
    tail *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.dot(tail, tail))
    response = np.concatenate([[1.0], tail])
    return (response / np.sqrt(np.dot(response, response))).astype(np.float32)


def reverberate(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolves a waveform [N] with an impulse response [M]; the result is cut to N samples.

    A long waveform is convolved in blocks, whose tails are added to the next one (overlap-add):
    transforms of the whole would take twice the time.
    """
    tail = response.size - 1
    size = 1 << (min(_BLOCK_RESPONSES * response.size, waveform.size + tail) - 1).bit_length()
    step = size - tail
    blocks = np.zeros((-(-waveform.size // step), step), np.float32)
    blocks.reshape(-1)[: waveform.size] = waveform
    spectra = np.fft.rfft(blocks, size) * np.fft.rfft(response, size)
    convolved = np.fft.irfft(spectra, size)
    convolved[1:, :tail] += convolved[:-1, step:]
    return convolved[:, :step].reshape(-1)[: waveform.size].astype(np.float32)
