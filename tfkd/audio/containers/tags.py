"""Tags of titles, which players put before and after audio: how long each is.

References:
  "ID3 tag version 2.4.0", M. Nilsson, 2000 (3.1: four times seven bits of length). ID3v1 and its
  extended form are 128 and 227 bytes long. "APE tags specification": 32 bytes of header and
  footer. "Lyrics3 v2.00": from LYRICSBEGIN to LYRICS200.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 32
_LYRICS_ENDS = (b"LYRICS200", b"LYRICSEND")
_APE_HEADER = 1 << 29


def is_filling(file: BinaryIO, start: int) -> bool:
    """Whether a file ends at `start`, or holds nothing but zeros and tags of titles from there.

    Audio that begins with such a tag, as an MP3 does, is none of these.
    """
    size = file.seek(0, os.SEEK_END)
    position = start
    while (position := _after_zeros(file, position)) < size:
        tag = _tag_bytes(file, position)
        if not tag:
            return False
        position += tag
    return True


def after_tags(file: BinaryIO, start: int) -> int:
    """Where the tags that follow each other from `start` on end; one may be cut short."""
    while tag := _tag_bytes(file, start):
        start += tag
    return start


def id3_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag that begins with `head`; 0 if none does."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
        return 0
    size = sum(octet << 7 * (3 - place) for place, octet in enumerate(head[6:10]))
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _after_zeros(file: BinaryIO, start: int) -> int:
    file.seek(start)
    while block := file.read(_BLOCK_BYTES):
        if rest := block.lstrip(b"\0"):
            return start + len(block) - len(rest)
        start += len(block)
    return start


def _tag_bytes(file: BinaryIO, start: int) -> int:
    """Length of the tag that begins at `start`; 0 if none does."""
    file.seek(start)
    head = file.read(_HEAD_BYTES)
    if head.startswith(b"ID3"):
        return id3_bytes(head)
    if head.startswith(b"TAG+"):
        return 227
    if head.startswith(b"TAG"):
        return 128
    if head.startswith(b"3DI"):
        return 10
    if head.startswith(b"APETAGEX"):
        is_header = int.from_bytes(head[20:24], "little") & _APE_HEADER
        return _HEAD_BYTES + (int.from_bytes(head[12:16], "little") if is_header else 0)
    if head.startswith(b"LYRICSBEGIN"):
        text = head + file.read(_BLOCK_BYTES)
        ends = [place + len(end) for end in _LYRICS_ENDS if (place := text.find(end)) >= 0]
        return min(ends, default=0)
    return 0
