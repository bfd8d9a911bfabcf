"""Finds how many bytes of samples a file holds if its header and its size disagree."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from tfkd.audio.unusable import joined, truncated

# A header and a file may differ by this much audio: the size of the header counted in, or a byte
# that was lost at the end. Nobody says a word in it.
TOLERANCE_SECONDS = 0.01
# Sizes of headers that programs count into the size of the samples.
_HEADER_BYTES = 64
# Programs that cannot know the length of what they write declare a huge one: 2000000000,
# 0x7FFFF000, 0x80000000, 0xFFFFFFFF less a header. A size from here on is always taken for that,
_SURELY_UNKNOWN = 0x7FFF0000
# one from here on if less than a tenth of it follows,
_PERHAPS_UNKNOWN = 1_000_000_000
# and from here on, then too, if it is a round number in base 2 or 10.
_PERHAPS_ROUND = (1 << 24) - 1
_ROUND_STEPS = (1 << 20, 10_000_000)
_LEAST_SHARE = 0.1
_BLOCK_BYTES = 1 << 20

# How files of audio begin: found where another one has ended, they were joined.
AUDIO_MAGIC = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b".snd", b"caff", b"fLaC", b"OggS")


@dataclass(frozen=True)
class Extent:
    """The bytes of samples after a header, and a remark if the header declared another number."""

    num_bytes: int
    remark: str | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """The remark, if there is one."""
        return (self.remark,) if self.remark else ()


def extent(
    file: BinaryIO,
    name: str,
    *,
    offset: int,
    declared: int | None,
    bytes_per_second: float,
    is_no_audio: Callable[[int], bool],
    magic: bytes,
) -> Extent:
    """Decides how many bytes of samples there are from `offset` on.

    Args:
      declared: bytes that the header declares; None where the format lets it say "to the end".
      is_no_audio: tells of a place at or after the declared end whether what follows there is known
        to be something else than samples.
      magic: how files of this kind begin; found among samples of unknown length, another file was
        joined to this one.
    Raises:
      UnusableAudio: truncated_audio, if clearly fewer bytes follow; undecodable_audio, if more do.
    """
    available = file.seek(0, os.SEEK_END) - offset
    tolerance = max(_HEADER_BYTES, round(TOLERANCE_SECONDS * bytes_per_second))
    if declared is None:
        return _to_the_end(file, name, offset, available, magic, None)
    if declared == 0 and available and not is_no_audio(offset):
        remark = f"the header declares no samples, {available} bytes of them follow"
        return _to_the_end(file, name, offset, available, magic, remark)
    surplus = available - declared
    if surplus >= 0:
        if is_no_audio(offset + declared):
            return Extent(declared)
        if surplus > tolerance:
            raise joined(name, f"{surplus} bytes after {declared} bytes of samples")
        return Extent(declared, f"{surplus} bytes follow the samples")
    remark = f"the header declares {declared} bytes of samples, {available} follow"
    if is_placeholder(declared, available):
        return _to_the_end(file, name, offset, available, magic, remark)
    if -surplus <= tolerance or -surplus in (offset, offset - 8):
        return Extent(available, remark)
    raise truncated(name, remark)


def is_placeholder(declared: int, available: int) -> bool:
    """Whether a size that a file does not reach is a placeholder of a writer that streamed."""
    if declared >= _SURELY_UNKNOWN:
        return True
    if available >= _LEAST_SHARE * declared:
        return False
    is_round = any((declared + one) % step == 0 for step in _ROUND_STEPS for one in (0, 1))
    return declared >= _PERHAPS_UNKNOWN or (declared >= _PERHAPS_ROUND and is_round)


def find(file: BinaryIO, words: bytes, start: int) -> int:
    """Finds the first of `words` from `start` on; -1 if there is none."""
    file.seek(start)
    block = b""
    position = start
    while more := file.read(_BLOCK_BYTES):
        found = (block + more).find(words)
        if found >= 0:
            return position - len(block) + found
        position += len(more)
        block = (block + more)[-len(words) + 1 :] if len(words) > 1 else b""
    return -1


def _to_the_end(
    file: BinaryIO, name: str, offset: int, available: int, magic: bytes, remark: str | None
) -> Extent:
    place = find(file, magic, offset)
    if place >= 0:
        raise joined(name, f"another header at byte {place}")
    return Extent(available, remark)
