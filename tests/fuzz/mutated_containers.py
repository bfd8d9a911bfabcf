"""Mutated containers of audio: what is accepted is what a second decoder reads, or all there was.

The second decoder is miniaudio (dr_wav, dr_flac, dr_mp3, stb_vorbis), which shares no code with
libsndfile.
"""

from __future__ import annotations

import functools
import io
import zlib
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
from mutation import mutate

from tfkd.audio.reading import Recording, decode_recording

RATE_HZ = 16000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "bare flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "w64": ("W64", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
}
_WORDS = [b"RIFF", b"WAVE", b"fmt ", b"data", b"LIST", b"fLaC", b"OggS", b"Xing", b"VBRI", b"ID3"]
_WORDS += [b"TAG", b".snd", b"caff", b"SSND", b"COMM", b"\xff\xf8", b"\xff\xfb\x90\x64", bytes(64)]
_SECONDS = 1.5
# Two frames of MPEG audio, which may hold no audio, and what decoders take off the start.
_MP3_SLACK = 2 * 1152 + 529


@functools.cache
def original(kind: str) -> tuple[bytes, np.ndarray]:
    """A short file of noise, and its samples."""
    buffer = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(_SECONDS * RATE_HZ))
    container, subtype = KINDS[kind]
    soundfile.write(buffer, noise, RATE_HZ, format=container, subtype=subtype)
    data = buffer.getvalue()
    if kind == "bare flac":  # Without the MD5 of its samples, which would tell every change.
        data = data[:26] + bytes(16) + data[42:]
    return data, decode_recording(data, name="original").waveform


def case(generator: np.random.Generator, scratch: Path) -> None:
    """Decodes a mutated file; what is read without a remark must be right."""
    kind = str(generator.choice(list(KINDS)))
    data, samples = original(kind)
    mutated = mutate([data], _WORDS, generator)
    if kind in ("vorbis", "opus") and generator.integers(2):
        mutated = _sealed(mutated)
    recording = decode_recording(mutated, name="mutated")
    if kind == "mp3" or not (recording.remarks or _is_part(recording.waveform, samples)):
        _compare(kind, mutated, recording)


def _is_part(waveform: np.ndarray, samples: np.ndarray) -> bool:
    return len(waveform) == len(samples) and np.array_equal(waveform, samples)


def _compare(kind: str, data: bytes, recording: Recording) -> None:
    """Raises AssertionError if a second decoder reads other audio."""
    second = _decoded(kind, data)
    if second is None:
        return
    ours, slack = recording.waveform, _MP3_SLACK if kind == "mp3" else 0
    # Of damaged MPEG audio dr_mp3 leaves out frames that libmpg123 fills with silence.
    surplus = len(ours) - len(second)
    if surplus < -slack or (surplus > 0 and kind != "mp3"):
        raise AssertionError(f"{kind}: {len(ours)} samples, a second decoder reads {len(second)}")
    if kind in ("wav", "flac", "bare flac") and np.abs(ours - second).max(initial=0.0) > 1e-4:
        raise AssertionError(f"{kind}: a second decoder reads other samples")


def _decoded(kind: str, data: bytes) -> np.ndarray | None:
    """What miniaudio reads, the mean of its channels; None if it refuses."""
    read = {
        "wav": miniaudio.wav_read_f32,
        "flac": miniaudio.flac_read_f32,
        "bare flac": miniaudio.flac_read_f32,
        "vorbis": miniaudio.vorbis_read,
        "mp3": miniaudio.mp3_read_f32,
    }.get(kind)
    if read is None:
        return None
    try:
        found = read(data)
    except miniaudio.MiniaudioError:
        return None
    samples = np.asarray(found.samples, np.float32).reshape(-1, found.nchannels)
    return samples.mean(axis=1) / (32768 if kind == "vorbis" else 1)


def _sealed(data: bytes) -> bytes:
    """The same pages with checksums that hold, so that what lies behind these is tried, too."""
    pages = bytearray(data)
    place = pages.find(b"OggS")
    while 0 <= place < len(pages) - 27:
        count = pages[place + 26]
        end = place + 27 + count + sum(pages[place + 27 : place + 27 + count])
        page = bytes(pages[place : place + 22]) + bytes(4) + bytes(pages[place + 26 : end])
        turned = bytes(int(f"{octet:08b}"[::-1], 2) for octet in page)
        crc = zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF
        pages[place + 22 : place + 26] = int(f"{crc:032b}"[::-1], 2).to_bytes(4, "little")
        place = pages.find(b"OggS", max(end, place + 1))
    return bytes(pages)
