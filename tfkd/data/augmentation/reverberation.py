"""Synthetic rooms: reverberation by an exponentially decaying impulse response."""

from __future__ import annotations

import numpy as np

_DECAY_DB = 60.0


def impulse_response(
    t60_seconds: float,
    direct_to_reverberant_db: float,
    rate_hz: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """The response [M] float32 of a room: the direct sound, and noise that dies away behind it.

    The whole has an energy of one, so a long sound stays about as loud as it was.

    Args:
      t60_seconds: time in which the reverberation falls by 60 dB; it ends there.
      direct_to_reverberant_db: energy of the direct sound over that of the rest.
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
    """What [N] sounds like in a room, as long as before: what would ring on is cut off."""
    size = 1 << (waveform.size + response.size - 2).bit_length()
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: waveform.size].astype(np.float32)
