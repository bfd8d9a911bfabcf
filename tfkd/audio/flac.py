"""Encodes and decodes the FLAC of records: 16-bit, one channel."""

from __future__ import annotations

import io

import numpy as np

from tfkd.audio.decoders import soundfile_for
from tfkd.audio.unusable import UnusableAudio
from tfkd.audio.waveforms import check_finite


def encode_flac(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """Encodes a waveform, float [N] in [-1, 1], as 16-bit mono FLAC.

    Samples are rounded to the nearest step and clipped. The same input gives the same bytes for
    one build of libsndfile.

    Raises:
      AudioError: if there is no sample, one is not finite, or soundfile is not installed.
      ValueError: if `waveform` is not one-dimensional.

    >>> import numpy as np
    >>> from tfkd.audio.flac import decode_flac, encode_flac
    >>> decode_flac(encode_flac(np.array([0.0, 0.5, -1.0]), 16000)).tolist()
    [0.0, 0.5, -1.0]
    """
    if waveform.ndim != 1:
        raise ValueError(f"cannot encode {waveform.shape}, only [num_samples]")
    if not waveform.size:
        raise UnusableAudio("too_short", "no samples to encode", remedy="leave the recording out")
    check_finite(waveform)
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile_for("FLAC").write(buffer, samples, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes, dtype: str = "float32") -> np.ndarray:
    """Decodes what `encode_flac` wrote, into float32 [N] in [-1, 1] or int16 [N].

    libsndfile does it at a sixth of the cost of TensorFlow I/O, and holds Python's lock for a
    fraction of that. Records are verified when a store is opened, so nothing is checked here.
    """
    return soundfile_for("FLAC").read(io.BytesIO(data), dtype=dtype)[0]
