"""Mutated wav, flac, mp3 and ogg files, decoded and brought to the model's rate."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import soundfile
from mutation import mutate

from tfkd.audio.flac import encode_flac
from tfkd.audio.reading import decode_audio
from tfkd.audio.resampling import resample
from tfkd.audio.waveforms import check_waveform

RATE_HZ = 16000
_FORMS = [
    ("WAV", "PCM_16", 1), ("WAV", "PCM_U8", 2), ("WAV", "PCM_24", 1), ("WAV", "FLOAT", 1),
    ("WAVEX", "PCM_16", 2), ("WAV", "IMA_ADPCM", 1), ("FLAC", "PCM_16", 1), ("FLAC", "PCM_24", 2),
    ("MP3", "MPEG_LAYER_III", 1), ("OGG", "VORBIS", 1), ("OGG", "OPUS", 1),
]  # fmt: skip
_WORDS = [
    b"RIFF",
    b"WAVE",
    b"fmt ",
    b"data",
    b"LIST",
    b"fLaC",
    b"OggS",
    b"Xing",
    b"ID3",
    b"\xff\xfb",
]
_WORDS += [bytes(8), b"\xff" * 8]


@functools.cache
def samples() -> list[bytes]:
    """A tenth of a second of noise in each form."""
    generator = np.random.default_rng(0)
    files = []
    for container, subtype, channels in _FORMS:
        buffer = io.BytesIO()
        noise = 0.1 * generator.standard_normal((RATE_HZ // 10, channels))
        soundfile.write(buffer, noise, RATE_HZ, format=container, subtype=subtype)
        files.append(buffer.getvalue())
    return files


def case(generator: np.random.Generator, scratch: Path) -> None:
    """What `tfkd prepare` does with a file."""
    data = mutate(samples(), _WORDS, generator)
    waveform, rate_hz = decode_audio(data, name="mutated")
    waveform = resample(waveform, rate_hz, RATE_HZ)
    check_waveform(waveform, RATE_HZ, min_seconds=0.01, max_seconds=30.0)
    encode_flac(waveform, RATE_HZ)
