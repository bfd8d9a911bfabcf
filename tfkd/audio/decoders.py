"""Decodes a file whose container was examined: uncompressed WAV by numpy, the rest by libsndfile.

A device has numpy alone, so soundfile is imported when it is first needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from tfkd.audio.containers import Container, FileView, PcmLayout
from tfkd.audio.signatures import signature_of
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio, damaged, truncated

_RATES_HZ = range(1000, 384_001)
# Above the rates of speech all that are in use are round; others are those of damaged headers, and
# cost gigabytes to resample.
_MAX_ODD_RATE_HZ, _ROUND_RATE_HZ = 48_000, 100
# As Kaldi does, forgive segments that end a little after the recording.
_END_OVERSHOOT_SECONDS = 0.5
# Audio that is longer than allowed by less is decoded, which gives its exact length.
_LENGTH_OVERSHOOT_SECONDS = 1.0
_BLOCK_FRAMES = 1 << 18
_MP3_LEAD_SECONDS = 1.0
# What lies so little behind the last part that was read is reached by reading on.
_NEARBY_SECONDS = 5.0
# libsndfile reports this many frames or more where a header gives no length.
_UNKNOWN_FRAMES = 1 << 62
_WAV_FLOAT = 3
# Bits of the samples that the MD5 of a FLAC was made of, by libsndfile's names for them.
_FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}


@dataclass(frozen=True)
class Span:
    """A part of a recording.

    Attributes:
      start_seconds: where it begins; None for the start of the recording.
      end_seconds: where it ends; None for the end of the recording.
      max_seconds: the longest part that is decoded, within a second.
    """

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


class AudioFile:
    """An examined file, of which parts are decoded; those that follow each other in one pass.

    To seek in an MP3 is to read it up to there, so a pass for each of many parts takes long.

    Args:
      file: the file, which has to stay open; other code must not read it meanwhile.
      container: what was found of it.
      name: its name in errors.

    Attributes:
      container: as it was given.
    """

    def __init__(self, file: BinaryIO, container: Container, name: str) -> None:
        self.container = container
        self._file, self._name = file, name
        self._source: Any = None
        # The frame that the source gives next, if that is known.
        self._next: int | None = 0

    def decode(self, span: Span) -> tuple[Iterator[np.ndarray], int]:
        """Decodes a part block by block.

        Returns:
          Blocks of samples, float32 [n, channels], of which there is at least one; and the rate in
          Hz. They have to be read before another part is asked for.
        Raises:
          UnusableAudio: if it cannot be decoded, holds no samples, or is not what its own length or
            checksum says; some of this only while the blocks are read.
        """
        pcm = self.container.pcm
        if pcm is not None:
            _check_rate(pcm.rate_hz, self._name)
            return _some(_pcm_blocks(self._file, pcm, self._name, span), self._name), pcm.rate_hz
        if self._source is None:
            self._open()
        _check_rate(self._source.samplerate, self._name)
        return _some(self._blocks(span), self._name), self._source.samplerate

    def close(self) -> None:
        """Releases the decoder; the file stays open."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _open(self) -> None:
        self.close()
        container = self.container
        with _decoder_errors(self._file, self._name):
            view = FileView(self._file, container.head, container.skip, container.end)
            self._source = soundfile_for("this file").SoundFile(view)
        self._next = 0

    def _blocks(self, span: Span) -> Iterator[np.ndarray]:
        container, name = self.container, self._name
        with _decoder_errors(self._file, name):
            num_frames = _num_frames(self._source, container, name)
            if num_frames == 0:
                return
            first, count = span.frames(num_frames, self._source.samplerate, name)
            self._go_to(first)
            source, self._next = self._source, None  # Unknown until all blocks are read.
            bits = _FLAC_BITS.get(source.subtype, 0)
            if container.md5 is not None and count == num_frames and bits:
                yield from _checked_blocks(source, container.md5, count, bits, name)
            else:
                yield from _read_blocks(source, count, "float32", container.may_lack, name)
            self._next = first + count

    def _go_to(self, first: int) -> None:
        """Makes a frame the next one that is read.

        Some codecs of telephones can only be read from the start, and frames of MP3 need what those
        before them have left.
        """
        source = self._source
        nearby = round(_NEARBY_SECONDS * source.samplerate)
        if self._next is None or not 0 <= first - self._next <= nearby:
            if self._next != 0:
                self._open()
                source = self._source
            is_mp3 = source.subtype.startswith("MPEG_LAYER")
            lead = min(first, round(_MP3_LEAD_SECONDS * source.samplerate)) if is_mp3 else 0
            self._next = first - lead if source.seekable() else 0
            if self._next:
                source.seek(self._next)
        # Where it can, soundfile seeks to where it is after each read, and loses these frames.
        source.seekable = lambda: False
        skipped = first - self._next
        while skipped and (found := len(source.read(min(skipped, _BLOCK_FRAMES), always_2d=True))):
            skipped -= found


def _num_frames(source: Any, container: Container, name: str) -> int:
    if source.frames >= _UNKNOWN_FRAMES:
        raise UnusableAudio(
            UNDECODABLE, "the header gives no length", path=name, remedy="write the file again"
        )
    if container.num_samples is not None and source.frames < container.num_samples:
        what = f"the decoder finds {source.frames} of its {container.num_samples} samples"
        raise UnusableAudio(
            UNDECODABLE, what, path=name, remedy="decode it into one WAV or FLAC file"
        )
    return source.frames


def _some(blocks: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """Hands on the blocks that hold samples, and raises if there is none."""
    is_empty = True
    for block in blocks:
        if block.size:
            is_empty = False
            yield block
    if is_empty:
        raise UnusableAudio(
            UNDECODABLE, "the file holds no samples", path=name, remedy="fetch it again"
        )


def soundfile_for(purpose: str) -> ModuleType:
    """The soundfile package, imported late because devices do without it."""
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not.
        raise UnusableAudio(
            UNDECODABLE,
            f"{purpose} needs soundfile: only uncompressed WAV is read without it",
            remedy="pip install soundfile",
        ) from error


def _check_rate(rate_hz: int, name: str) -> None:
    is_odd = rate_hz > _MAX_ODD_RATE_HZ and rate_hz % _ROUND_RATE_HZ
    if rate_hz not in _RATES_HZ or is_odd:
        raise UnusableAudio(
            UNDECODABLE,
            f"implausible sample rate {rate_hz} Hz",
            path=name,
            remedy="fetch the file again: its header is damaged",
        )


def _pcm_blocks(file: BinaryIO, pcm: PcmLayout, name: str, span: Span) -> Iterator[np.ndarray]:
    num_frames = pcm.num_bytes // pcm.frame_bytes
    if num_frames == 0:
        return
    first, missing = span.frames(num_frames, pcm.rate_hz, name)
    file.seek(pcm.offset + first * pcm.frame_bytes)
    while missing > 0:
        data = file.read(min(missing, _BLOCK_FRAMES) * pcm.frame_bytes)
        yield _pcm_samples(data, pcm).reshape(-1, pcm.channels)
        missing -= _BLOCK_FRAMES


def _pcm_samples(data: bytes, pcm: PcmLayout) -> np.ndarray:
    if pcm.encoding == _WAV_FLOAT:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if pcm.bits == 8:  # The only unsigned width.
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if pcm.bits == 24:
        widened = np.zeros((len(data) // 3, 4), np.uint8)
        widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return widened.reshape(-1).view("<i4").astype(np.float32) / 2**31
    width = pcm.bits // 8
    return np.frombuffer(data, f"<i{width}").astype(np.float32) / 2 ** (pcm.bits - 1)


@contextlib.contextmanager
def _decoder_errors(file: BinaryIO, name: str) -> Iterator[None]:
    """Names the file in the errors of libsndfile."""
    try:
        soundfile = soundfile_for("this file")
    except UnusableAudio as error:
        raise UnusableAudio(error.reason, error.message, path=name, remedy=error.remedy) from error
    try:
        yield
    # TypeError: a file whose name ends in .raw has no header to read.
    except (soundfile.SoundFileError, TypeError) as error:
        raise _undecodable(file, name, str(error)) from error


def _undecodable(file: BinaryIO, name: str, why: str) -> UnusableAudio:
    """The error that names the kind of the file, or else gives the decoder's own message."""
    file.seek(0)
    signature = signature_of(file.read(512))
    if signature is not None:
        what = f"cannot be decoded as audio: it is {signature.what}"
        return UnusableAudio(UNDECODABLE, what, path=name, remedy=signature.remedy)
    # libsndfile puts the memory address of the stream before its own words.
    reason = why.rpartition("Error opening")[2].rpartition(">: ")[2]
    what = f"cannot be decoded as audio: {reason}"
    return UnusableAudio(UNDECODABLE, what, path=name, remedy="fetch or write the file again")


def _read_blocks(
    source: Any, count: int, dtype: str, may_lack: int, name: str
) -> Iterator[np.ndarray]:
    """Reads `count` frames, of which `may_lack` may be missing. A block that is short is the last.

    soundfile would otherwise seek back to where the frames that it got end, and a decoder that left
    out a damaged part would repeat what came after it.
    """
    missing = count
    while missing > 0:
        wanted = min(missing, _BLOCK_FRAMES)
        block = source.read(wanted, dtype=dtype, always_2d=True)
        missing -= len(block)
        yield block
        if len(block) < wanted:
            break
    if missing > may_lack:
        found = count - missing
        raise truncated(name, f"the header declares {count} samples, but {found} follow")


def _checked_blocks(
    source: Any, md5: bytes, count: int, bits: int, name: str
) -> Iterator[np.ndarray]:
    """Reads all samples of a FLAC, and compares them with the MD5 that its encoder made of them."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in _read_blocks(source, count, "int32", 0, name):
        octets = (block >> (32 - bits)).astype("<i4").view(np.uint8).reshape(-1, 4)
        digest.update(np.ascontiguousarray(octets[:, : bits // 8]).tobytes())
        yield block.astype(np.float32) / 2**31
    if digest.digest() != md5:
        raise damaged(name, "its samples do not have the MD5 that its header declares")
