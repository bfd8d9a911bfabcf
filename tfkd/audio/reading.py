"""Audio files to waveforms at the model's rate, and back to FLAC.

The device side imports this module with numpy alone: uncompressed WAV is read by the code below,
everything else by soundfile, which is imported when it is first needed. Preparation and device
share every step, so a recording gives the same samples in both places.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from tfkd.audio.mp3_frames import samples_in_frames
from tfkd.audio.resampling import resample
from tfkd.errors import AudioError

UNDECODABLE = "undecodable_audio"

_RATES_HZ = range(1000, 384_001)
# Above the rates of speech all that are in use are round; others are those of damaged headers, and
# cost gigabytes to resample.
_MAX_ODD_RATE_HZ, _ROUND_RATE_HZ = 48_000, 100
# Lossy codecs overshoot full scale a little; floats beyond this are samples that were never scaled.
_UNSCALED_PEAK = 4.0
# As Kaldi does, forgive segments that end a little after the recording.
_END_OVERSHOOT_SECONDS = 0.5
# What is longer than allowed by less is told when it is decoded, which gives its exact length.
_LENGTH_OVERSHOOT_SECONDS = 1.0

_WAV_PCM, _WAV_FLOAT, _WAV_EXTENSIBLE = 1, 3, 0xFFFE
# The tail of the GUID of WAVE_FORMAT_EXTENSIBLE, after the two bytes that hold the format.
_WAV_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Programs that write to a pipe declare a size at or above this, because they do not know it.
_WAV_UNKNOWN_BYTES = 0x7FFF0000
_WAV_READABLE = {(_WAV_PCM, 8), (_WAV_PCM, 16), (_WAV_PCM, 24), (_WAV_PCM, 32), (_WAV_FLOAT, 32)}

_BLOCK_FRAMES = 1 << 18
# libsndfile reports this many frames or more where a header gives no length.
_UNKNOWN_FRAMES = 1 << 62
# The length of an MP3 without a Xing header is estimated from its bit rate.
_MP3_LENGTH_TOLERANCE = 0.05
# Where an Ogg page says which stream it is of.
_OGG_STREAM = slice(14, 18)
_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255


class UnusableAudio(AudioError):
    """Audio that cannot be used; `reason` is the slug for `Rejection.reason`.

    Reasons: missing_file, unreadable_file, undecodable_audio, truncated_audio, unscaled_audio,
    bad_segment, not_finite, silent, too_short, too_long.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        path: str | Path | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, path=path, remedy=remedy)
        self.reason = reason


@dataclass(frozen=True)
class _Span:
    """Part of a recording, in seconds; None: from its start, to its end."""

    start_seconds: float | None = None
    end_seconds: float | None = None
    max_seconds: float = math.inf

    def frames(self, num_frames: int, rate_hz: int, name: str) -> tuple[int, int]:
        """First frame and number of frames of this part.

        Raises:
          UnusableAudio: bad_segment, if the part is empty or outside the recording; too_long, if it
            is far longer than `max_seconds`.
        """
        seconds = num_frames / rate_hz
        start = 0.0 if self.start_seconds is None else self.start_seconds
        end = seconds if self.end_seconds is None else self.end_seconds
        inside = 0 <= start < min(end, seconds) and end <= seconds + _END_OVERSHOOT_SECONDS
        first = round(start * rate_hz) if inside else 0
        count = min(round(end * rate_hz), num_frames) - first if inside else 0
        if count < 1:
            raise UnusableAudio(
                "bad_segment",
                f"segment {start:g} to {end:g} s does not lie in a recording of {seconds:.3f} s",
                path=name,
                remedy="correct its start and end",
            )
        if count / rate_hz > self.max_seconds + _LENGTH_OVERSHOOT_SECONDS:
            what = f"{count / rate_hz:.3f} s of audio, longer than {self.max_seconds:g} s"
            raise UnusableAudio("too_long", what, path=name, remedy="split the recording")
        return first, count


def decode_audio(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    """Decodes WAV, FLAC, MP3, Ogg and whatever else libsndfile reads.

    Args:
      data: the content of the file.
      name: what errors call it.
    Returns:
      The waveform, float32 [N] in [-1, 1] with the channels averaged, and its rate in Hz. Float
      WAV files may hold NaN or infinity; they are handed on for `check_waveform` to report.
    Raises:
      AudioError: (as `UnusableAudio`) if the data cannot be decoded, hold no samples, are cut
        short, or need soundfile, which is not installed.
    """
    return _decode(io.BytesIO(data), name, _Span())


def read_audio(
    path: str | Path,
    *,
    sample_rate_hz: int,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_seconds: float = math.inf,
) -> np.ndarray:
    """Reads a recording, or the part from `start_seconds` to `end_seconds`, at a given rate.

    Only the part is decoded, so many short segments of a long recording cost little.

    Args:
      max_seconds: what is longer by a second or more is refused before it is decoded, so that a
        recording of hours costs no memory.
    Returns:
      The waveform, float32 [N] in [-1, 1] at `sample_rate_hz`, channels averaged.
    Raises:
      AudioError: (as `UnusableAudio`) if the file is missing or unreadable, cannot be decoded, or
        is too short for the part, or the part is far too long. A part that ends up to 0.5 s too
        late is cut.
    """
    waveform, rate_hz = _read_span(path, _Span(start_seconds, end_seconds, max_seconds))
    # Steep filters overshoot where the recording was clipped.
    return _within_full_scale(resample(waveform, rate_hz, sample_rate_hz), str(path))


def read_part(
    path: str | Path, *, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[np.ndarray, int]:
    """Like `read_audio`, but at the rate of the file, in Hz, which comes second."""
    return _read_span(path, _Span(start_seconds, end_seconds))


def _read_span(path: str | Path, span: _Span) -> tuple[np.ndarray, int]:
    if not os.path.isfile(path):  # Path.is_file raises for names that no file can have.
        raise UnusableAudio("missing_file", "no such file", path=path, remedy="check the manifest")
    try:
        with open(path, "rb") as file:
            return _decode(file, str(path), span)
    except OSError as error:
        reason = f"cannot read: {error.strerror or error}"
        raise UnusableAudio("unreadable_file", reason, path=path) from error


def encode_flac(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """Encodes a waveform, float [N] in [-1, 1], as 16-bit mono FLAC.

    Samples are rounded to the nearest step and clipped. The same input gives the same bytes for
    one build of libsndfile.

    Raises:
      AudioError: if there is no sample, one is not finite, or soundfile is not installed.
      ValueError: if `waveform` is not one-dimensional.
    """
    if waveform.ndim != 1:
        raise ValueError(f"cannot encode {waveform.shape}, only [num_samples]")
    if not waveform.size:
        raise UnusableAudio("too_short", "no samples to encode")
    _check_finite(waveform)
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    _soundfile("FLAC").write(buffer, samples, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def check_waveform(
    waveform: np.ndarray, sample_rate_hz: int, *, min_seconds: float, max_seconds: float
) -> None:
    """Refuses a waveform [N] that no recogniser can learn from.

    Raises:
      AudioError: (as `UnusableAudio`) not_finite (NaN or infinity), too_short, too_long, or silent
        (every sample is zero).
    """
    _check_finite(waveform)
    seconds = waveform.size / sample_rate_hz
    if seconds < min_seconds:
        reason, limit = "too_short", f"shorter than min_seconds {min_seconds:g}"
    elif seconds > max_seconds:
        reason, limit = "too_long", f"longer than max_seconds {max_seconds:g}"
    elif not waveform.any():
        reason, limit = "silent", "nothing but zeros"
    else:
        return
    raise UnusableAudio(reason, f"{seconds:.3f} s of audio, {limit}")


def _check_finite(waveform: np.ndarray) -> None:
    bad = waveform.size - np.count_nonzero(np.isfinite(waveform))
    if bad:
        raise UnusableAudio(
            "not_finite",
            f"{bad} of {waveform.size} samples are NaN or infinite",
            remedy="write the file again from its source",
        )


def _decode(file: BinaryIO, name: str, span: _Span) -> tuple[np.ndarray, int]:
    if file.seek(0, os.SEEK_END) == 0:
        raise UnusableAudio(UNDECODABLE, "the file is empty", path=name)
    header = _read_wav_header(file, name)
    if header is not None:
        frames, rate_hz = _read_wav(file, header, name, span), header.rate_hz
    else:
        frames, rate_hz = _read_with_soundfile(file, name, span)
    if not frames.size:
        raise UnusableAudio(UNDECODABLE, "the file holds no samples", path=name)
    return _within_full_scale(frames.mean(axis=1, dtype=np.float32), name), rate_hz


def _within_full_scale(waveform: np.ndarray, name: str) -> np.ndarray:
    """Clips what overshoots; NaN and infinity stay, for `check_waveform` to report."""
    peak = float(np.abs(waveform).max(initial=0.0))
    if not math.isfinite(peak) or peak <= 1:
        return waveform
    if peak > _UNSCALED_PEAK:
        raise UnusableAudio(
            "unscaled_audio",
            f"float samples reach {peak:g}, full scale is 1",
            path=name,
            remedy="scale the samples to [-1, 1]",
        )
    return np.clip(waveform, -1.0, 1.0)


def _check_rate(rate_hz: int, name: str) -> None:
    is_odd = rate_hz > _MAX_ODD_RATE_HZ and rate_hz % _ROUND_RATE_HZ
    if rate_hz not in _RATES_HZ or is_odd:
        raise UnusableAudio(UNDECODABLE, f"implausible sample rate {rate_hz} Hz", path=name)


def _truncated(name: str, what: str) -> UnusableAudio:
    return UnusableAudio("truncated_audio", what, path=name, remedy="fetch the file again")


# --- WAV, without soundfile


@dataclass(frozen=True)
class _WavHeader:
    encoding: int
    channels: int
    rate_hz: int
    bits: int
    data_offset: int
    data_bytes: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def _read_wav_header(file: BinaryIO, name: str) -> _WavHeader | None:
    """Finds the format and the samples; None if this is no WAV, or one that libsndfile must read.

    Raises:
      UnusableAudio: if the file ends before its header or its samples do.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return None
    format_chunk = b""
    while len(head := file.read(8)) == 8:
        chunk, chunk_bytes = struct.unpack("<4sI", head)
        offset = file.tell()
        if chunk == b"fmt ":
            format_chunk = file.read(min(chunk_bytes, 40))
        if chunk == b"data":
            if chunk_bytes < _WAV_UNKNOWN_BYTES and offset + chunk_bytes > size:
                what = f"the header declares {chunk_bytes} bytes of samples, {size - offset} follow"
                raise _truncated(name, what)
            return _wav_header(format_chunk, offset, min(chunk_bytes, size - offset))
        file.seek(offset + chunk_bytes + chunk_bytes % 2)  # Chunks begin at even offsets.
    raise _truncated(name, "the file ends before its samples begin")


def _wav_header(format_chunk: bytes, offset: int, data_bytes: int) -> _WavHeader | None:
    if len(format_chunk) < 16:
        return None
    encoding, channels, rate_hz, _, block, bits = struct.unpack("<HHIIHH", format_chunk[:16])
    if encoding == _WAV_EXTENSIBLE and format_chunk[26:40] == _WAV_GUID_TAIL:
        encoding = int.from_bytes(format_chunk[24:26], "little")
    header = _WavHeader(encoding, channels, rate_hz, bits, offset, data_bytes)
    readable = (encoding, bits) in _WAV_READABLE and channels > 0 and block == header.frame_bytes
    return header if readable else None


def _read_wav(file: BinaryIO, header: _WavHeader, name: str, span: _Span) -> np.ndarray:
    """Samples of the part, float32 [N, channels]."""
    _check_rate(header.rate_hz, name)
    num_frames = header.data_bytes // header.frame_bytes
    if num_frames == 0:
        return np.empty((0, header.channels), np.float32)
    first, count = span.frames(num_frames, header.rate_hz, name)
    file.seek(header.data_offset + first * header.frame_bytes)
    samples = _wav_samples(file.read(count * header.frame_bytes), header)
    return samples.reshape(-1, header.channels)


def _wav_samples(data: bytes, header: _WavHeader) -> np.ndarray:
    if header.encoding == _WAV_FLOAT:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if header.bits == 8:  # The only unsigned width.
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if header.bits == 24:
        widened = np.zeros((len(data) // 3, 4), np.uint8)
        widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return widened.reshape(-1).view("<i4").astype(np.float32) / 2**31
    width = header.bits // 8
    return np.frombuffer(data, f"<i{width}").astype(np.float32) / 2 ** (header.bits - 1)


# --- everything else, through soundfile


def _soundfile(purpose: str) -> ModuleType:
    """The soundfile package, imported late because devices do without it."""
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not.
        raise UnusableAudio(
            UNDECODABLE,
            f"{purpose} needs soundfile: only uncompressed WAV is read without it",
            remedy="pip install soundfile",
        ) from error


def _read_with_soundfile(file: BinaryIO, name: str, span: _Span) -> tuple[np.ndarray, int]:
    """Samples of the part, float32 [N, channels], and the rate in Hz."""
    try:
        soundfile = _soundfile("this file")
    except UnusableAudio as error:
        raise UnusableAudio(error.reason, error.message, path=name, remedy=error.remedy) from error
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as source:
            _check_rate(source.samplerate, name)
            if source.format == "OGG":
                _check_last_ogg_page(file, name)
            frames = _read_frames(source, name, span)
            if source.format == "MP3" and span.end_seconds is None:
                _check_rest_of_mp3(file, source.frames, name)
            return frames, source.samplerate
    # TypeError: a file whose name ends in .raw has no header to read.
    except (soundfile.SoundFileError, TypeError) as error:
        # libsndfile puts the memory address of the stream before its own words.
        reason = str(error).rpartition("Error opening")[2].rpartition(">: ")[2]
        raise UnusableAudio(
            UNDECODABLE,
            f"cannot be decoded as audio: {reason}",
            path=name,
            remedy="fetch or write the file again",
        ) from error


def _read_frames(source, name: str, span: _Span) -> np.ndarray:
    """Reads block by block: a damaged header may declare more frames than there is memory for."""
    if source.frames >= _UNKNOWN_FRAMES:
        raise UnusableAudio(
            UNDECODABLE, "the header gives no length", path=name, remedy="write the file again"
        )
    if source.frames == 0:
        return np.empty((0, source.channels), np.float32)
    first, count = span.frames(source.frames, source.samplerate, name)
    if first:
        source.seek(first)
    blocks, missing = [], count
    while missing > 0:
        block = source.read(min(missing, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        missing -= len(block)
    tolerance = _MP3_LENGTH_TOLERANCE if source.format == "MP3" else 0.0
    if missing > tolerance * count:
        raise _truncated(name, f"the header declares {count} samples, {count - missing} follow")
    return np.concatenate(blocks)


def _check_last_ogg_page(file: BinaryIO, name: str) -> None:
    """libsndfile reads an Ogg file that was cut as a shorter one, and of several that were joined
    the first; the last page tells."""
    position = file.tell()
    file.seek(0)
    first_page = file.read(27)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_OGG_PAGE_BYTES))
    tail = file.read()
    file.seek(position)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    num_segments = page[26] if len(page) > 26 else 256
    if len(page) < 27 + num_segments + sum(page[27 : 27 + num_segments]):
        raise _truncated(name, "the last Ogg page is incomplete")
    if page[_OGG_STREAM] != first_page[_OGG_STREAM]:
        raise _joined(name)


def _check_rest_of_mp3(file: BinaryIO, num_frames: int, name: str) -> None:
    """libsndfile reads as much as the header declares, which of joined files is that of the first;
    where there is none it estimates, too."""
    if samples_in_frames(file.read()) > _MP3_LENGTH_TOLERANCE * num_frames:
        raise _joined(name)


def _joined(name: str) -> UnusableAudio:
    what = "holds more audio than its header declares, as joined files do"
    return UnusableAudio(UNDECODABLE, what, path=name, remedy="decode it into one WAV or FLAC file")
