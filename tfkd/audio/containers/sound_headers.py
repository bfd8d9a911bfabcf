"""Checks Sun AU, Apple's CAF and AIFF, and NIST SPHERE by the length that their headers declare.

References:
  "Audio Interchange File Format AIFF-C", Apple 1991; "Apple Core Audio Format Specification 1.0".
  NIST SPHERE 2.6, "File format"; au(5) of SunOS.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from tfkd.audio.containers.lengths import Extent, extent
from tfkd.audio.containers.tags import is_filling
from tfkd.audio.containers.view import Container
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio, truncated

_AU_TO_THE_END = 0xFFFFFFFF
# Bytes a sample of the encodings of AU; of those left out, frames vary.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_CAF_TO_THE_END = -1
_CAF_EDITS_BYTES = 4
_AIFC_BITS = {b"ulaw": 8, b"alaw": 8, b"ULAW": 8, b"ALAW": 8}
_AIFC_BITS |= {b"fl32": 32, b"FL32": 32, b"fl64": 64, b"FL64": 64}
_AIFC_PLAIN = (b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32")
_SPHERE_FIELD = re.compile(rb"^(\w+) -(?:i|r|s\d+) (.*)$", re.MULTILINE)


def examine_au(file: BinaryIO, name: str) -> Container | None:
    """Compares the size that an AU declares with what follows; None if this is no AU.

    Raises:
      UnusableAudio: if the file ends before its samples do, or goes on after them.
    """
    file.seek(0)
    head = file.read(24)
    if head[:4] not in (b".snd", b"dns."):
        return None
    if len(head) < 24:
        raise truncated(name, "the file ends before its samples begin")
    order = ">" if head[:4] == b".snd" else "<"
    offset, declared, encoding, rate_hz, channels = struct.unpack(f"{order}5I", head[4:])
    file.seek(0)
    whole = bytearray(file.read(min(offset, 1 << 16)))
    if len(whole) < offset:
        raise truncated(name, "the file ends before its samples begin")
    found = extent(
        file,
        name,
        offset=offset,
        declared=None if declared == _AU_TO_THE_END else declared,
        bytes_per_second=rate_hz * channels * _AU_BYTES.get(encoding, 1),
        is_no_audio=lambda place: is_filling(file, place),
        magic=head[:4] + bytes(3) if order == ">" else head[:4],
    )
    whole[8:12] = struct.pack(f"{order}I", min(found.num_bytes, _AU_TO_THE_END))
    return _corrected(bytes(whole), offset, found, is_open=declared == _AU_TO_THE_END)


def examine_caf(file: BinaryIO, name: str) -> Container | None:
    """Compares the size that a CAF declares with what follows; None if this is no CAF.

    Raises:
      UnusableAudio: if the file ends before its samples do, or goes on after them.
    """
    file.seek(0)
    if file.read(4) != b"caff":
        return None
    bytes_per_second, is_packed = 0.0, False
    for letters, start, size in _caf_chunks(file, 8):
        if letters == b"desc":
            file.seek(start)
            fields = file.read(32)
            if len(fields) == 32:
                rate_hz, _, _, packet, frames, _, _ = struct.unpack(">d4s5I", fields)
                is_rate = 0 < rate_hz < math.inf  # NaN is none.
                bytes_per_second = rate_hz * packet / max(1, frames) if is_rate else 0.0
                is_packed = packet == 0
        elif letters == b"data":
            offset = start + _CAF_EDITS_BYTES
            found = extent(
                file,
                name,
                offset=offset,
                declared=None if size == _CAF_TO_THE_END else max(0, size - _CAF_EDITS_BYTES),
                bytes_per_second=min(bytes_per_second, 1e9),
                is_no_audio=lambda place: _is_caf_chain(file, place),
                magic=b"caff\0\1\0\0",
            )
            if is_packed and size - _CAF_EDITS_BYTES > found.num_bytes:
                # A byte that is missing takes a packet of thousands of samples with it.
                raise truncated(name, found.remark or "its last packet is incomplete")
            file.seek(0)
            head = bytearray(file.read(offset))
            head[start - 8 : start] = struct.pack(">q", found.num_bytes + _CAF_EDITS_BYTES)
            return _corrected(bytes(head), offset, found, is_open=size == _CAF_TO_THE_END)
    raise truncated(name, "the file ends before its samples begin")


def examine_aiff(file: BinaryIO, name: str) -> Container | None:
    """Compares the size that an AIFF declares with what follows; None if this is no AIFF.

    Raises:
      UnusableAudio: if the file ends before its samples do, or goes on after them.
    """
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"FORM" or head[8:] not in (b"AIFF", b"AIFC"):
        return None
    common, common_at = b"", 0
    for letters, start, size in _iff_chunks(file, 12):
        if letters == b"COMM":
            file.seek(start)
            common, common_at = file.read(min(size, 26)), start
        elif letters == b"SSND":
            return _aiff_container(file, name, common, common_at, start, size)
    raise truncated(name, "the file ends before its samples begin")


def examine_sphere(file: BinaryIO, name: str) -> Container | None:
    """Compares the length that a NIST SPHERE declares with what follows; None if this is none.

    Raises:
      UnusableAudio: if the file ends before its samples do, or goes on after them, or is
        compressed in a way that no decoder here reads.
    """
    file.seek(0)
    head = file.read(16)
    if head[:8] != b"NIST_1A\n":
        return None
    size = int(head[8:].strip() or b"0") if head[8:].strip().isdigit() else 0
    file.seek(0)
    fields = dict(_SPHERE_FIELD.findall(file.read(min(size, 1 << 16))))
    coding = fields.get(b"sample_coding", b"").decode("ascii", "replace").strip()
    for packer in ("shorten", "wavpack", "shortpack"):
        if packer in coding:
            raise UnusableAudio(
                UNDECODABLE,
                f"SPHERE audio compressed by {packer} ({coding})",
                path=name,
                remedy="convert it: sph2pipe -f wav X Y.wav",
            )
    wanted = (b"sample_count", b"sample_n_bytes", b"channel_count", b"sample_rate")
    values = [fields.get(field, b"").strip() for field in wanted]
    if not size or not all(value.isdigit() for value in values):
        return Container()  # libsndfile says what is wrong with it.
    count, num_bytes, channels, rate_hz = map(int, values)
    found = extent(
        file,
        name,
        offset=size,
        declared=count * num_bytes * channels,
        bytes_per_second=num_bytes * channels * rate_hz,
        is_no_audio=lambda place: is_filling(file, place),
        magic=b"NIST_1A\n",
    )
    if not found.remarks:
        return Container(end=size + found.num_bytes)  # libsndfile reads tags as samples.
    file.seek(0)
    held = str(found.num_bytes // max(1, num_bytes * channels)).encode()
    text = re.sub(rb"sample_count -i \d+", b"sample_count -i " + held, file.read(size), count=1)
    head = text.rstrip(b"\0 ").ljust(size, b"\0")[:size]
    end = size + found.num_bytes
    return Container(head=head, skip=size, end=end, remarks=found.remarks)


def _corrected(head: bytes, offset: int, found: Extent, *, is_open: bool) -> Container:
    """Returns the container for a decoder, with a wrong or missing size in the header corrected."""
    if not found.remarks and not is_open:
        return Container()
    end = offset + found.num_bytes
    return Container(head=head, skip=offset, end=end, remarks=found.remarks)


def _aiff_container(
    file: BinaryIO, name: str, common: bytes, common_at: int, start: int, size: int
) -> Container:
    if len(common) < 18:
        return Container()  # libsndfile says what is wrong with it.
    channels, frames, bits = struct.unpack(">HIH", common[:8])
    kind = common[18:22] if len(common) >= 22 else b"NONE"
    if kind not in _AIFC_PLAIN and kind not in _AIFC_BITS:
        return Container()
    frame_bytes = max(1, channels * ((_AIFC_BITS.get(kind, bits) + 7) // 8))
    offset = start + 8  # Of the chunk: offset and size of blocks, which nobody uses.
    found = extent(
        file,
        name,
        offset=offset,
        declared=max(0, size - 8),
        bytes_per_second=frame_bytes * _extended(common[8:18]),
        is_no_audio=lambda place: _is_iff_chain(file, place),
        magic=b"COMM\0\0\0",
    )
    held = found.num_bytes // frame_bytes
    remarks = found.remarks
    if not remarks and frames != held:
        remarks = (f"the header declares {frames} samples, its chunk holds {held}",)
    file.seek(0)
    head = bytearray(file.read(offset))
    head[4:8] = struct.pack(">I", min(offset + found.num_bytes - 8, 0xFFFFFFFF))
    head[common_at + 2 : common_at + 6] = struct.pack(">I", held)
    head[start - 4 : start] = struct.pack(">I", min(found.num_bytes + 8, 0xFFFFFFFF))
    if not remarks:
        return Container()
    return Container(head=bytes(head), skip=offset, end=offset + found.num_bytes, remarks=remarks)


def _extended(number: bytes) -> float:
    """Reads the 80-bit float of a rate in AIFF; 0 if it is not plausible."""
    exponent, mantissa = struct.unpack(">HQ", number)
    power = exponent - 16383 - 63
    return mantissa * 2.0**power if -64 <= power <= 0 else 0.0


def _caf_chunks(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Letters, start and size of each chunk from `position` on."""
    file_size = file.seek(0, os.SEEK_END)
    while position < file_size:
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            return
        letters, size = struct.unpack(">4sq", head)
        yield letters, position + 12, size
        if size < 0:
            return
        position += 12 + size


def _iff_chunks(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Letters, start and size of each chunk from `position` on."""
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        letters, size = struct.unpack(">4sI", head)
        yield letters, position + 8, size
        position += 8 + size + size % 2


def _is_caf_chain(file: BinaryIO, place: int) -> bool:
    """Whether chunks that are no samples fill the file from `place` to its end."""
    return _is_chain(file, place, _caf_chunks(file, place), 1, (b"data", b"desc", b"caff"))


def _is_iff_chain(file: BinaryIO, place: int) -> bool:
    """Whether chunks that are no samples fill the file from `place` to its end."""
    place += place % 2
    return _is_chain(file, place, _iff_chunks(file, place), 2, (b"SSND", b"COMM", b"FORM"))


def _is_chain(
    file: BinaryIO,
    place: int,
    chunks: Iterator[tuple[bytes, int, int]],
    aligned: int,
    audio: tuple[bytes, ...],
) -> bool:
    size = file.seek(0, os.SEEK_END)
    end = place
    for letters, start, length in chunks:
        if is_filling(file, end):
            return True
        is_name = all(0x20 <= letter < 0x7F for letter in letters)
        if not is_name or letters in audio or length < 0 or start + length > size + aligned:
            return False
        end = start + length + length % aligned
    return is_filling(file, end)
