"""Checks FLAC: counts its frames by their headers, and fills in a missing length.

References:
  RFC 9639, "Free Lossless Audio Codec (FLAC)", sections 8 (metadata) and 9 (frames).
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from tfkd.audio.containers.tags import is_filling
from tfkd.audio.containers.view import Container
from tfkd.audio.unusable import damaged, joined, truncated

_STREAMINFO_END = 42
_MAX_HEADER_BYTES = 16
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# Where STREAMINFO holds the number of samples, in the lower 36 bits of these five bytes.
_LENGTH = slice(21, 26)
_LENGTH_MASK = (1 << 36) - 1
_BLOCK_SIZES = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}}
_BLOCK_SIZES |= {n: 256 << (n - 8) for n in range(8, 16)}
_SAMPLE_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_EXTRA_RATE_BYTES = {12: 1, 13: 2, 14: 2}


@dataclass(frozen=True)
class _Frame:
    """The header of a frame.

    Attributes:
      number: of the frame, or of its first sample where block sizes vary.
    """

    start: int
    number: int
    block_size: int
    is_variable: bool

    @property
    def following(self) -> int:
        """The number of the next frame."""
        return self.number + (self.block_size if self.is_variable else 1)


def examine_flac(file: BinaryIO, name: str) -> Container | None:
    """Counts the samples of a FLAC file; None if it is not FLAC.

    Raises:
      UnusableAudio: if frames are missing, damaged, or follow the end that the header declares.
    """
    file.seek(0)
    if file.read(4) != b"fLaC":
        return None
    file.seek(0)
    data = file.read()
    start = _metadata_end(data)
    if start is None or len(data) < _STREAMINFO_END:
        raise truncated(name, "the file ends before its samples begin")
    declared = int.from_bytes(data[_LENGTH], "big") & _LENGTH_MASK
    channels = (data[20] >> 1 & 7) + 1
    bits = ((data[20] & 1) << 4 | data[21] >> 4) + 1
    frames = _frames(data, start, channels, bits)
    found, strangers = _in_order(frames)
    _check_strangers(data, name, found, strangers, frames)
    num_samples = sum(frame.block_size for frame in found)
    if found:
        _check_end(data, name, found[-1], channels * bits)
    if declared and num_samples > declared:
        raise joined(name, f"{num_samples} samples in its frames, {declared} declared")
    if declared > num_samples:
        raise truncated(name, f"the header declares {declared} samples, {num_samples} follow")
    md5 = data[26:42] if any(data[26:42]) else None
    if declared or not num_samples:
        return Container(md5=md5)
    return Container(
        head=_with_length(data[:_STREAMINFO_END], num_samples),
        skip=_STREAMINFO_END,
        md5=md5,
        remarks=("the header gives no length, the frames do",),
    )


def _metadata_end(data: bytes) -> int | None:
    position = 4
    while position + 4 <= len(data):
        is_last = data[position] & 0x80
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
        if is_last:
            return position if position <= len(data) else None
    return None


def _with_length(head: bytes, num_samples: int) -> bytes:
    fields = int.from_bytes(head[_LENGTH], "big") | num_samples
    return head[: _LENGTH.start] + fields.to_bytes(5, "big") + head[_LENGTH.stop :]


def _frames(data: bytes, start: int, channels: int, bits: int) -> list[_Frame]:
    """Finds what looks like the header of a frame of this stream, from `start` on."""
    matches = _SYNC.finditer(data, start)
    headers = (_header(data, match.start(), channels, bits) for match in matches)
    return [frame for frame in headers if frame is not None]


def _header(data: bytes, start: int, channels: int, bits: int) -> _Frame | None:
    """Reads a header (RFC 9639, section 9.1); None if no such frame begins here."""
    head = data[start : start + _MAX_HEADER_BYTES]
    if len(head) < 6 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    channel_code, bits_code = head[3] >> 4, head[3] >> 1 & 7
    if size_code == 0 or rate_code == 15 or bits_code == 3:
        return None
    if (2 if 8 <= channel_code <= 10 else channel_code + 1) != channels:
        return None
    if bits_code and _SAMPLE_BITS[bits_code] != bits:
        return None
    number, position = _coded_number(head)
    if number is None:
        return None
    extra = {6: 1, 7: 2}.get(size_code, 0)
    size = int.from_bytes(head[position : position + extra], "big") + 1
    position += extra + _EXTRA_RATE_BYTES.get(rate_code, 0)
    if position >= len(head) or _crc8(head[:position]) != head[position]:
        return None
    return _Frame(start, number, size if extra else _BLOCK_SIZES[size_code], bool(head[1] & 1))


def _coded_number(head: bytes) -> tuple[int | None, int]:
    """Reads a frame's number, coded as UTF-8 codes characters; returns it and its end."""
    first = head[4]
    if first < 0x80:
        return first, 5
    length = 8 - (first ^ 0xFF).bit_length()
    rest = head[5 : 4 + length]
    if not 2 <= length <= 7 or len(rest) < length - 1 or any(c >> 6 != 2 for c in rest):
        return None, 0
    number = first & (0x7F >> length)
    for octet in rest:
        number = number << 6 | octet & 0x3F
    return number, 4 + length


def _in_order(frames: Sequence[_Frame]) -> tuple[list[_Frame], list[_Frame]]:
    """Splits headers into frames that count from 0 without a gap, and mostly accidental others."""
    found: list[_Frame] = []
    strangers: list[_Frame] = []
    expected = 0
    for frame in frames:
        if frame.number == expected:
            found.append(frame)
            expected = frame.following
        else:
            strangers.append(frame)
    return found, strangers


def _check_strangers(
    data: bytes,
    name: str,
    found: Sequence[_Frame],
    strangers: Sequence[_Frame],
    frames: Sequence[_Frame],
) -> None:
    """Refuses frames that are out of order and have a right checksum, so are no accident."""
    ends = dict(pairwise([*(frame.start for frame in frames), len(data)]))
    for stranger in strangers:
        if _crc16(data[stranger.start : ends[stranger.start]]) == 0:
            if found and stranger.number < found[-1].following:
                raise joined(name, f"frame {stranger.number} a second time")
            raise damaged(name, f"frames before number {stranger.number} are missing")


def _check_end(data: bytes, name: str, last: _Frame, sample_bits: int) -> None:
    """Refuses an incomplete last frame, and anything but tags and zeros after it.

    Args:
      sample_bits: of one sample of every channel.
    """
    longest = last.block_size * (sample_bits + 8) // 8 + _MAX_HEADER_BYTES
    size = _frame_bytes(data[last.start : last.start + longest + 3], data, last.start)
    if not size:
        raise truncated(name, "the last frame is incomplete or damaged")
    rest = data[last.start + size :]
    if not is_filling(io.BytesIO(rest), 0):
        raise joined(name, f"{len(rest)} bytes after its last frame")


def _frame_bytes(frame: bytes, data: bytes, start: int) -> int:
    """Returns the bytes of the frame at `start`, up to where its checksum holds; 0 if nowhere."""
    crc = 0
    table = _crc16_table()
    for place, octet in enumerate(frame, 1):
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ octet]
        # Among the first bytes lies the header: a checksum there would be chance.
        if crc == 0 and place > _MAX_HEADER_BYTES // 2 and _is_end(data, start + place):
            return place
    return 0


def _is_end(data: bytes, place: int) -> bool:
    """Whether what follows `place` shows that a frame ends there."""
    if data.startswith((b"fLaC", b"\xff\xf8", b"\xff\xf9"), place):
        return True
    return is_filling(io.BytesIO(data), place)


def _crc8(data: bytes) -> int:
    crc = 0
    for octet in data:
        crc = _crc8_table()[crc ^ octet]
    return crc


def _crc16(data: bytes) -> int:
    """Returns the CRC-16 of a frame with its checksum: 0 if it is undamaged."""
    crc = 0
    table = _crc16_table()
    for octet in data:
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ octet]
    return crc


@functools.cache
def _crc8_table() -> list[int]:
    return [_remainder(octet, 0x07, 8) for octet in range(256)]


@functools.cache
def _crc16_table() -> list[int]:
    return [_remainder(octet << 8, 0x8005, 16) for octet in range(256)]


def _remainder(value: int, polynomial: int, width: int) -> int:
    for _ in range(8):
        value = value << 1 ^ (polynomial if value >> (width - 1) & 1 else 0)
        value &= (1 << width) - 1
    return value
