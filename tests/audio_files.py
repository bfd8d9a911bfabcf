"""Small files of audio, made in memory, and what is refused of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tfkd.audio.reading import decode_audio
from tfkd.audio.unusable import UnusableAudio
from tfkd.errors import AudioError


def tone(rate_hz: int, seconds: float = 0.5, hz: float = 440.0, channels: int = 1) -> np.ndarray:
    """Sines, [N] or [N, channels]; each channel is quieter than the one before."""
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    wave = 0.5 * np.sin(2 * np.pi * hz * time)
    return wave if channels == 1 else np.stack([wave / (i + 1) for i in range(channels)], 1)


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)


def encoded(samples: np.ndarray, rate_hz: int, format: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=format, subtype=subtype)
    return buffer.getvalue()


def refusal(data: bytes, name: str = "clip.xyz") -> UnusableAudio:
    with pytest.raises(AudioError, match=f"^{name}: ") as caught:
        decode_audio(data, name=name)
    assert isinstance(caught.value, UnusableAudio)
    assert "\n" not in str(caught.value)
    return caught.value
