"""Reads and writes TFRecord framing, and checks every byte before TensorFlow reads a file.

TensorFlow reads a file that was cut inside a header as a shorter one, and crashes on a header that
declares a huge length. This reader raises an error for both, without allocating memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from tfkd.errors import RecordError
from tfkd.storage.files import REDO, reading

_HEADER = struct.Struct("<QI")  # length of the payload, masked crc32c of those eight bytes
_FOOTER = struct.Struct("<I")  # masked crc32c of the payload
FRAME_BYTES = _HEADER.size + _FOOTER.size  # Framing adds this to each record.
_LENGTH_BYTES = 8
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """Computes the masked crc32c of `data` as in TFRecord files (32 bits)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Wraps one payload as a TFRecord: length, crc of the length, payload, crc of the payload."""
    length = len(payload).to_bytes(_LENGTH_BYTES, "little")
    header = _HEADER.pack(len(payload), masked_crc32c(length))
    return header + payload + _FOOTER.pack(masked_crc32c(payload))


def read_records(path: str | Path) -> Iterator[bytes]:
    """Yields the payloads of a TFRecord file after checking both checksums of each.

    A cut exactly between two records cannot be detected here, so the caller must count them.

    Raises:
      RecordError: if the file cannot be read, ends inside a record, or a checksum disagrees; it
        gives the byte and the record, both from 0.
    """
    path = Path(path)
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        number = 0
        while (offset := file.tell()) < size:
            try:
                payload = _read_record(file, size - offset)
            except ValueError as fault:
                raise _damage(path, number, offset, fault) from fault
            yield payload
            number += 1


def record_offsets(path: Path) -> list[int]:
    """Finds the byte at which each record of a TFRecord file begins; reads headers only."""
    offsets = []
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (offset := file.tell()) < size:
            offsets.append(offset)
            try:
                length = _read_length(file, size - offset)
            except ValueError as fault:
                raise _damage(path, len(offsets) - 1, offset, fault) from fault
            file.seek(length + _FOOTER.size, os.SEEK_CUR)
    return offsets


def read_record_at(path: Path, number: int, offset: int) -> bytes:
    """Reads record `number`, which begins at byte `offset`, and checks its checksums.

    Raises:
      RecordError: if it cannot be read, or a checksum disagrees.
    """
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(offset)
        try:
            return _read_record(file, size - offset)
        except ValueError as fault:
            raise _damage(path, number, offset, fault) from fault


def _damage(path: Path, number: int, offset: int, fault: ValueError) -> RecordError:
    return RecordError(f"damaged record {number} at byte {offset}: {fault}", path=path, remedy=REDO)


def _read_record(file: BinaryIO, remaining: int) -> bytes:
    """Reads one record of a file with `remaining` bytes; raises ValueError if it is damaged."""
    payload = _read_exactly(file, _read_length(file, remaining))
    (payload_crc,) = _FOOTER.unpack(_read_exactly(file, _FOOTER.size))
    if payload_crc != masked_crc32c(payload):
        raise ValueError("the checksum of its content disagrees")
    return payload


def _read_length(file: BinaryIO, remaining: int) -> int:
    """Reads the header of a record; raises ValueError if it is damaged."""
    if remaining < _HEADER.size:
        raise ValueError("the file ends inside its header")
    header = _read_exactly(file, _HEADER.size)
    length, length_crc = _HEADER.unpack(header)
    if length_crc != masked_crc32c(header[:_LENGTH_BYTES]):
        raise ValueError("the checksum of its length disagrees")
    # Check before reading, so that a wrong length costs no memory.
    if length > remaining - _HEADER.size - _FOOTER.size:
        raise ValueError(f"it declares {length} bytes, more than the file holds")
    return length


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    """Reads `count` bytes; fewer come only if the file shrank while it was read."""
    data = file.read(count)
    if len(data) != count:
        raise ValueError("the file became shorter while it was read")
    return data
