"""Checks WAV in all its forms: RIFF, RIFX, RF64 and BW64, and Sound Forge's Wave64.

References:
  Microsoft and IBM 1991, "Multimedia Programming Interface and Data Specifications 1.0".
  EBU Tech 3306, 2009, "RF64: An extended file format for audio" (ITU-R BS.2088 calls it BW64).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from tfkd.audio.containers.lengths import Extent, extent
from tfkd.audio.containers.mp3_frames import examine_mp3
from tfkd.audio.containers.tags import is_filling
from tfkd.audio.containers.view import Container, FileView, PcmLayout
from tfkd.audio.unusable import damaged, truncated

_PCM, _FLOAT, _MP3, _EXTENSIBLE = 1, 3, 0x55, 0xFFFE
# The tail of the GUID of WAVE_FORMAT_EXTENSIBLE, after the two bytes that hold the format.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_READABLE = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)}
# Beyond 32 bits the size stands in the chunk ds64, and this in its place.
_SEE_DS64 = 0xFFFFFFFF
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_W64_HEAD_BYTES = 24
_MAX_FORMAT_BYTES = 40
# Chunks of samples, and the first chunks of another file.
_AUDIO = (b"data", b"fmt ", b"RIFF", b"RF64", b"BW64", b"RIFX", b"riff")
# Chunks of titles, marks and pictures, which may be cut short without any loss of audio.
_TITLES = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"_PMX", b"cue ", b"smpl", b"JUNK", b"PAD ")


@dataclass(frozen=True)
class _Chunk:
    """A chunk: its four letters, where its content begins, and the bytes that it declares."""

    letters: bytes
    start: int
    size: int


@dataclass(frozen=True)
class _Layout:
    """How a kind of WAV writes its chunks.

    Attributes:
      head: struct format of letters and size.
      first: where the first chunk begins.
      aligned: bytes that the start of a chunk is a multiple of.
    """

    order: str
    first: int = 12
    aligned: int = 2
    is_w64: bool = False

    def chunk(self, file: BinaryIO, position: int) -> _Chunk | None:
        """Reads the head of the chunk at `position`; None if the file ends there."""
        file.seek(position)
        if self.is_w64:
            head = file.read(_W64_HEAD_BYTES)
            if len(head) < _W64_HEAD_BYTES:
                return None
            # The size counts these bytes in, but for a program that was killed before it knew it.
            size = max(0, int.from_bytes(head[16:], "little") - _W64_HEAD_BYTES)
            letters = head[:4] if head[4:16] == _W64_TAIL or head[:4] == b"riff" else b"\0\0\0\0"
            return _Chunk(letters, position + _W64_HEAD_BYTES, size)
        head = file.read(8)
        if len(head) < 8:
            return None
        letters, size = struct.unpack(f"{self.order}4sI", head)
        return _Chunk(letters, position + 8, size)

    def after(self, chunk: _Chunk) -> int:
        """Returns where the next chunk begins."""
        end = chunk.start + chunk.size
        return end + -end % self.aligned


def examine_riff(file: BinaryIO, name: str) -> Container | None:
    """Finds the samples of a WAV file; None if it is not WAV.

    Raises:
      UnusableAudio: if the file ends before its samples do, goes on after them, or describes them
        twice in different ways.
    """
    layout = _layout(file)
    if layout is None:
        return None
    format_chunk, long_size = b"", None
    for chunk in _chunks(file, layout):
        if chunk.letters == b"fmt ":
            file.seek(chunk.start)
            earlier, format_chunk = format_chunk, file.read(min(chunk.size, _MAX_FORMAT_BYTES))
            if earlier not in (b"", format_chunk):
                raise damaged(name, "it holds two formats that differ")
        elif chunk.letters == b"ds64":
            file.seek(chunk.start + 8)
            long_size = int.from_bytes(file.read(8), "little")
        elif chunk.letters == b"data":
            return _container(file, name, layout, format_chunk, chunk, long_size)
    raise truncated(name, "the file ends before its samples begin")


def _layout(file: BinaryIO) -> _Layout | None:
    file.seek(0)
    head = file.read(40)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _Layout("<")
    if head[:4] == b"RIFX" and head[8:12] == b"WAVE":
        return _Layout(">")
    if head[:16] == _W64_RIFF and head[24:40] == b"wave" + _W64_TAIL:
        return _Layout("<", first=40, aligned=8, is_w64=True)
    return None


def _chunks(file: BinaryIO, layout: _Layout) -> Iterator[_Chunk]:
    size = file.seek(0, os.SEEK_END)
    position = layout.first
    while position < size and (chunk := layout.chunk(file, position)) and chunk.size >= 0:
        yield chunk
        position = layout.after(chunk)


def _container(
    file: BinaryIO,
    name: str,
    layout: _Layout,
    format_chunk: bytes,
    data: _Chunk,
    long_size: int | None,
) -> Container:
    if len(format_chunk) < 16:
        return Container()  # libsndfile says what is wrong with it.
    encoding, channels, rate_hz, byte_rate, block, bits = struct.unpack(
        f"{layout.order}HHIIHH", format_chunk[:16]
    )
    if encoding == _EXTENSIBLE and format_chunk[26:40] == _GUID_TAIL:
        encoding = int.from_bytes(format_chunk[24:26], "little")
    declared = data.size
    if long_size is not None and data.size == _SEE_DS64:
        declared = long_size
    found = extent(
        file,
        name,
        offset=data.start,
        declared=declared,
        bytes_per_second=max(byte_rate, block),
        is_no_audio=lambda place: _is_no_audio(file, layout, place),
        magic=_W64_RIFF if layout.is_w64 else b"WAVEfmt ",
    )
    pcm = PcmLayout(encoding, channels, rate_hz, bits, data.start, found.num_bytes)
    is_plain = layout.order == "<" and (encoding, bits) in _READABLE
    if is_plain and channels > 0 and block == pcm.frame_bytes:
        return Container(pcm=pcm, remarks=found.remarks)
    if encoding == _MP3 and (frames := _mp3(file, name, data, found)) is not None:
        return frames
    return _corrected(file, layout, data, found)


def _mp3(file: BinaryIO, name: str, data: _Chunk, found: Extent) -> Container | None:
    """MP3 in a WAV, by its frames alone: what the header says of its length is an estimate."""
    end = data.start + found.num_bytes
    frames = examine_mp3(cast(BinaryIO, FileView(file, skip=data.start, end=end)), name)
    if frames is None:
        return None
    whole = replace(frames, end=found.num_bytes if frames.end is None else frames.end)
    return replace(whole.moved(data.start), remarks=(*found.remarks, *frames.remarks))


def _corrected(file: BinaryIO, layout: _Layout, data: _Chunk, found: Extent) -> Container:
    """Returns the container for a decoder, with a wrong size in the header corrected."""
    if not found.remarks:
        return Container()
    file.seek(0)
    head = bytearray(file.read(data.start))
    if layout.is_w64:
        head[-8:] = struct.pack("<Q", found.num_bytes + _W64_HEAD_BYTES)
    else:
        size = min(found.num_bytes, _SEE_DS64)
        head[-4:] = struct.pack(f"{layout.order}I", size)
        head[4:8] = struct.pack(f"{layout.order}I", min(size + data.start - 8, _SEE_DS64))
    end = data.start + found.num_bytes
    return Container(head=bytes(head), skip=data.start, end=end, remarks=found.remarks)


def _is_no_audio(file: BinaryIO, layout: _Layout, place: int) -> bool:
    """Whether chunks that are no samples fill the file from `place` to its end."""
    size = file.seek(0, os.SEEK_END)
    # Some programs leave out the byte that rounds an odd size up.
    places = {place + -place % layout.aligned, place}
    return any(_is_chain(file, layout, each, size) for each in places)


def _is_chain(file: BinaryIO, layout: _Layout, position: int, size: int) -> bool:
    while not is_filling(file, position):
        chunk = layout.chunk(file, position)
        if chunk is None or not _is_name(chunk.letters) or chunk.size < 0:
            return False
        position = layout.after(chunk)
        if position > size + layout.aligned:
            return chunk.letters in _TITLES
    return True


def _is_name(letters: bytes) -> bool:
    is_printable = all(0x20 <= letter < 0x7F for letter in letters) and letters[:1] != b" "
    return is_printable and letters not in _AUDIO
