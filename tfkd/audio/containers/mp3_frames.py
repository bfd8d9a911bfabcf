"""Checks MPEG audio: counts its frames, and compares them with the length in its header.

References:
  ISO/IEC 11172-3, 2.4.1 and 2.4.2; ISO/IEC 13818-3 (half and quarter rates).
  "MP3 Info Tag revision 1 specification", LAME project (Xing and Info headers).
  "VBRI header", Fraunhofer IIS (the other header that gives the number of frames).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import BinaryIO

from tfkd.audio.containers.lengths import AUDIO_MAGIC
from tfkd.audio.containers.tags import after_tags, is_filling
from tfkd.audio.containers.view import Container
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio, damaged, joined, truncated

_RATES_HZ = (44_100, 48_000, 32_000)
# Kilobits a second by layer, full rates and then lower ones.
_KILOBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Chance writes one header of a frame into a kilobyte or two, but no three in a row.
_SURE_FRAMES = 3
_MAX_LEADING_BYTES = 1 << 16
_VBRI_AT = 36
_ENCODERS = (b"LAME", b"Lavc", b"Lavf")
# Samples that a decoder leaves out at the start, whatever the header says.
_DECODER_DELAY = 529


@dataclass(frozen=True)
class _Frame:
    """The header of a frame.

    Attributes:
      kind: version, layer and rate, which are the same in all frames of a stream.
      num_bytes: of the whole frame.
      num_samples: a channel.
    """

    kind: tuple[int, int, int]
    num_bytes: int
    num_samples: int
    is_mono: bool

    @property
    def side_bytes(self) -> int:
        """Bytes of side information of a frame of layer III."""
        if self.kind[0] == 3:
            return 17 if self.is_mono else 32
        return 9 if self.is_mono else 17


@dataclass(frozen=True)
class _LengthHeader:
    """A first frame that gives the number of frames that follow, and no audio.

    Attributes:
      is_read: whether decoders know it; that of Fraunhofer they do not.
      silence: samples at both ends that the encoder added, and a decoder leaves out.
    """

    frames: int
    is_read: bool
    silence: int = 0


@dataclass(frozen=True)
class _Stream:
    """Frames that follow each other: where the first begins, where the last ends, their number."""

    start: int
    end: int
    count: int


def examine_mp3(file: BinaryIO, name: str) -> Container | None:
    """Counts the frames of an MP3 (or MP2, MP1) file; None if it is not one.

    Raises:
      UnusableAudio: truncated_audio, if the header gives the length and frames are missing;
        undecodable_audio, if something else lies between frames, or more follow than it declares.
    """
    file.seek(0)
    data = file.read(_MAX_LEADING_BYTES)
    start = _first_frame(data)
    frame = None if start is None else _frame(data, start)
    if start is None or frame is None:
        return None
    file.seek(0)
    data = file.read()
    stream = _walk(data, start, frame.kind)
    rest_remarks = _check_rest(data, name, stream, frame.kind)
    header = _length_header(data, start, frame)
    if header is None and frame.kind[1] != 3:
        count = stream.count * frame.num_samples
        return Container(skip=start, end=stream.end, num_samples=count, remarks=rest_remarks)
    if header is None:
        return replace(_with_length(data, name, start, frame, stream), remarks=rest_remarks)
    is_unfinished = header.frames == 0 and stream.count > 1  # Its writer fills it in at the end.
    lacking: tuple[str, ...]
    if is_unfinished:
        lacking = (f"its header declares no frames, {stream.count - 1} follow",)
    else:
        lacking = _compare(name, header.frames, stream.count - 1)
    remarks = lacking or rest_remarks
    if is_unfinished or not header.is_read:
        rest = _Stream(start + frame.num_bytes, stream.end, stream.count - 1)
        return replace(_with_length(data, name, rest.start, frame, rest), remarks=remarks)
    may_lack = frame.num_samples if lacking else 0
    # Where the rest of the header is damaged, a decoder may guess the length.
    least = header.frames * frame.num_samples - header.silence - frame.num_samples - _DECODER_DELAY
    return Container(skip=start, num_samples=least, may_lack=may_lack, remarks=remarks)


def _frame(data: bytes, start: int) -> _Frame | None:
    """Reads the header at `start`; None if there is none."""
    head = data[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    is_full = version == 3
    rate_hz = _RATES_HZ[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = 1000 * _KILOBITS[is_full, layer][bit_rate - 1]
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 1152 if is_full or layer == 2 else 576
    unit = 4 if layer == 1 else 1
    num_bytes = (samples // 8 // unit * bits // rate_hz + padding) * unit
    return _Frame((version, layer, rate_hz), num_bytes, samples, head[3] >> 6 == 3)


def _first_frame(data: bytes) -> int | None:
    """Finds where frames begin; None if there is none near the start.

    One or two frames will do if they begin at the first byte and fill the file, or more of their
    kind follow after a gap.
    """
    first = _frame(data, 0)
    place = data.find(b"\xff")
    while place >= 0:
        frame = _frame(data, place)
        if frame is not None:
            stream = _walk(data, place, frame.kind, _SURE_FRAMES)
            is_whole = place == 0 and stream.count > 0 and stream.end == len(data)
            if stream.count == _SURE_FRAMES or is_whole:
                return 0 if first is not None and first.kind == frame.kind else place
        place = data.find(b"\xff", place + 1)
    return None


def _walk(data: bytes, start: int, kind: tuple[int, int, int], most: float = math.inf) -> _Stream:
    """Follows frames of one kind from `start` to the last complete one."""
    position, count = start, 0
    while count < most and (frame := _frame(data, position)) is not None and frame.kind == kind:
        if position + frame.num_bytes > len(data):
            break
        position += frame.num_bytes
        count += 1
    return _Stream(start, position, count)


def _check_rest(
    data: bytes, name: str, stream: _Stream, kind: tuple[int, int, int]
) -> tuple[str, ...]:
    """Refuses frames after a gap: bytes between them were damaged, or files were joined.

    Returns:
      Remarks on what follows the frames and is neither a tag nor filling.
    """
    file = io.BytesIO(data)
    if is_filling(file, stream.end):
        return ()
    after = after_tags(file, stream.end)
    if data.startswith(AUDIO_MAGIC, after):
        raise joined(name, f"another file begins at byte {after}")
    place = data.find(b"\xff", stream.end + 1)
    while place >= 0:
        frame = _frame(data, place)
        if frame is not None and _walk(data, place, frame.kind, _SURE_FRAMES).count == _SURE_FRAMES:
            if frame.kind != kind or after > stream.end:
                raise joined(name, f"another stream of frames at byte {place}")
            raise damaged(name, f"bytes {stream.end} to {place} between its frames are no frame")
        place = data.find(b"\xff", place + 1)
    last = _frame(data, stream.end)
    if last is not None and last.kind == kind:
        return ("it ends within a frame, as interrupted downloads do: its end may be missing",)
    return (f"{len(data) - after} bytes after its last frame are no frames",)


def _length_header(data: bytes, start: int, frame: _Frame) -> _LengthHeader | None:
    """Reads the length from the first frame; None if that frame holds audio."""
    tag = data[start + 4 + frame.side_bytes : start + frame.num_bytes]
    if tag[:4] in (b"Xing", b"Info") and len(tag) >= 12 and tag[7] & 1:
        return _LengthHeader(int.from_bytes(tag[8:12], "big"), True, _added_silence(tag))
    tag = data[start + _VBRI_AT : start + frame.num_bytes]
    if tag[:4] == b"VBRI" and len(tag) >= 18:
        return _LengthHeader(int.from_bytes(tag[14:18], "big"), is_read=False)
    return None


def _added_silence(tag: bytes) -> int:
    """Reads LAME's part of a header, which stands behind the fields that its flags name."""
    at = 8 + sum(size for bit, size in enumerate((4, 4, 100, 4)) if tag[7] >> bit & 1)
    if tag[at : at + 4] not in _ENCODERS or len(tag) < at + 24:
        return 0
    start_and_end = int.from_bytes(tag[at + 21 : at + 24], "big")
    return (start_and_end >> 12) + (start_and_end & 0xFFF)


def _compare(name: str, declared: int, found: int) -> tuple[str, ...]:
    what = f"the header declares {declared} frames, {found} follow"
    if found == declared:
        return ()
    if abs(found - declared) == 1:
        return (what,)
    if found < declared:
        raise truncated(name, what)
    raise joined(name, what)


def _with_length(data: bytes, name: str, start: int, frame: _Frame, stream: _Stream) -> Container:
    """Puts a header with the number of frames before the frames of a file without one.

    A decoder would guess the length from the bits of the first frame, and read no further.
    """
    head = bytearray(data[start : start + 4])
    head[1] |= 1  # No checksum.
    flags_and_count = (1).to_bytes(4, "big") + stream.count.to_bytes(4, "big")
    head += bytes(frame.side_bytes) + b"Info" + flags_and_count
    # The smallest bit rate that has room for it.
    for bit_rate in range(1, 15):
        head[2] = bit_rate << 4 | head[2] & 0x0C
        own = _frame(bytes(head), 0)
        if own is not None and own.num_bytes >= len(head):
            whole = bytes(head).ljust(own.num_bytes, b"\0")
            return Container(head=whole, skip=start, end=stream.end)
    raise UnusableAudio(
        UNDECODABLE,
        "no frame has room for a length",
        path=name,
        remedy="decode it into a WAV or FLAC file",
    )
