"""Checks Ogg: each page has a checksum, a number, and the length of the audio up to its end.

References:
  RFC 3533, "The Ogg Encapsulation Format Version 0", section 6.
  RFC 9639, section 10.1 (FLAC in Ogg).
  RFC 6716, "Definition of the Opus Audio Codec", section 3.1; RFC 7845, "Ogg Encapsulation for
  the Opus Audio Codec", section 4.
"""

from __future__ import annotations

import io
import itertools
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from tfkd.audio.containers.flac_frames import examine_flac
from tfkd.audio.containers.tags import is_filling
from tfkd.audio.containers.view import Container
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio, damaged, joined, truncated

_HEADER_BYTES = 27
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_FLAC_MAPPING, _FLAC_MAPPING_BYTES = b"\x7fFLAC", 9
_AUDIO_HEADS = (b"\x01vorbis", b"OpusHead", _FLAC_MAPPING, b"Speex   ")
_NO_GRANULE = (1 << 64) - 1
# zlib's CRC-32 is Ogg's with the bits of every byte, and of the result, in reverse order.
_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
# Opus: samples at 48 kHz of a frame, by the five bits of its configuration.
_OPUS_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
# A packet is at most 120 ms: less than that is a matter of rounding, not of lost audio.
_OPUS_TOLERANCE = 5760


@dataclass(frozen=True)
class _Page:
    start: int
    flags: int
    granule: int
    stream: int
    number: int
    lacing: bytes
    body: bytes

    @property
    def ends_packets(self) -> bool:
        """Whether a packet ends in this page."""
        return any(length < 255 for length in self.lacing)

    def packet_starts(self) -> Iterator[bytes]:
        """The first two bytes of each packet that begins in this page and of those that it ends."""
        position, begins = 0, not self.flags & _CONTINUED
        for length in self.lacing:
            if begins:
                yield self.body[position : position + 2]
            position += length
            begins = length < 255


def examine_ogg(file: BinaryIO, name: str) -> Container | None:
    """Checks every page of an Ogg file; None if it is not Ogg.

    Raises:
      UnusableAudio: undecodable_audio, if a page is damaged, missing or out of order, or another
        stream follows or lies beside it; truncated_audio, if the last page is incomplete or does
        not end the stream.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return None
    file.seek(0)
    data = file.read()
    pages = list(_pages(data, name))
    end = pages[-1].start + _HEADER_BYTES + len(pages[-1].lacing) + len(pages[-1].body)
    _check_order(pages, name)
    for stream in dict.fromkeys(page.stream for page in pages):
        own = [page for page in pages if page.stream == stream]
        _check_granules(own, name)
        if own[0].body.startswith(b"OpusHead"):
            _check_opus_lengths(own, name)
        if not own[-1].flags & _LAST:
            raise truncated(name, "no page ends the stream: its end is missing")
        if own[-1].granule == _NO_GRANULE and own[-1].ends_packets:
            raise damaged(name, "the last page does not say where its audio ends")
    _check_one_is_audio(pages, name)
    if pages[0].body.startswith(_FLAC_MAPPING):
        return _native_flac([page for page in pages if page.stream == pages[0].stream], name)
    return Container(end=end)


def _native_flac(pages: Sequence[_Page], name: str) -> Container | None:
    """Unpacks the FLAC of an Ogg file, since not every libsndfile reads FLAC in Ogg."""
    data = b"".join(page.body for page in pages)[_FLAC_MAPPING_BYTES:]
    container = examine_flac(io.BytesIO(data), name)
    if container is None:
        raise damaged(name, "no FLAC follows where the first Ogg page says so")
    whole = container.head + data[container.skip :]
    return replace(container, head=whole, skip=sys.maxsize)


def _pages(data: bytes, name: str) -> Iterator[_Page]:
    position = 0
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            if is_filling(io.BytesIO(data), position):
                return
            following = data.find(b"OggS", position)
            what = "no Ogg page" if following >= 0 else "no Ogg page, and nothing after it is one"
            raise damaged(name, f"at byte {position} begins {what}")
        page = _page(data, position)
        if page is None:
            raise truncated(name, "the last Ogg page is incomplete")
        size = _HEADER_BYTES + len(page.lacing) + len(page.body)
        _check_crc(data[position : position + size], position, name)
        yield page
        position += size


def _page(data: bytes, start: int) -> _Page | None:
    """Reads the page that begins at `start`; None if the file ends within it."""
    head = data[start : start + _HEADER_BYTES]
    if len(head) < _HEADER_BYTES:
        return None
    body_start = start + _HEADER_BYTES + head[26]
    lacing = data[start + _HEADER_BYTES : body_start]
    body = data[body_start : body_start + sum(lacing)]
    if len(lacing) < head[26] or len(body) < sum(lacing):
        return None
    granule = int.from_bytes(head[6:14], "little")
    stream, number = (int.from_bytes(head[k : k + 4], "little") for k in (14, 18))
    return _Page(start, head[5], granule, stream, number, lacing, body)


def _check_crc(page: bytes, start: int, name: str) -> None:
    declared = int.from_bytes(page[22:26], "little")
    blank = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    register = zlib.crc32(blank, 0xFFFFFFFF) ^ 0xFFFFFFFF
    if int(f"{register:032b}"[::-1], 2) != declared:
        raise damaged(name, f"the checksum of the Ogg page at byte {start} does not hold")


def _check_order(pages: Sequence[_Page], name: str) -> None:
    """Refuses missing pages, repeated ones, and a stream that begins after audio of another."""
    expected: dict[int, int] = {}
    ended: set[int] = set()
    has_audio = False
    for page in pages:
        if page.stream not in expected:
            if has_audio:
                raise joined(name, f"another stream begins at byte {page.start}")
            if not page.flags & _FIRST:
                raise damaged(name, "the first page of the stream is missing")
        elif page.flags & _FIRST:
            raise joined(name, f"another stream begins at byte {page.start}")
        elif page.number != expected[page.stream]:
            missing = f"page {page.number} follows page {expected[page.stream] - 1}"
            raise damaged(name, f"{missing}: pages are missing or repeated")
        if page.stream in ended:
            raise joined(name, f"the page at byte {page.start} follows the last one of its stream")
        if page.flags & _LAST:
            ended.add(page.stream)
        has_audio |= page.granule not in (0, _NO_GRANULE)
        expected[page.stream] = (page.number + 1) & 0xFFFFFFFF


def _check_granules(pages: Sequence[_Page], name: str) -> None:
    granules = [page.granule for page in pages if page.granule != _NO_GRANULE]
    for earlier, later in itertools.pairwise(granules):
        if later < earlier:
            raise damaged(name, f"the audio ends at sample {earlier}, then at {later}")


def _check_one_is_audio(pages: Sequence[_Page], name: str) -> None:
    """Refuses several streams of audio side by side, of which decoders read the first."""
    heads = [page.body for page in pages if page.flags & _FIRST]
    count = sum(head.startswith(_AUDIO_HEADS) for head in heads)
    if count > 1:
        raise UnusableAudio(
            UNDECODABLE,
            f"holds {count} streams of audio side by side",
            path=name,
            remedy="write each into a file of its own: ffmpeg -i X -map 0:a:0 -c copy Y",
        )


def _check_opus_lengths(pages: Sequence[_Page], name: str) -> None:
    """Compares the length that each page declares with the sum of its packets' lengths."""
    counted, last = 0, None
    for page in pages[1:]:
        if page.body.startswith(b"OpusTags"):
            continue
        counted += sum(map(_opus_samples, page.packet_starts()))
        if page.granule in (0, _NO_GRANULE):
            continue
        surplus = 0 if last is None else page.granule - last - counted
        # The last page may declare less than it holds: what is beyond is filling.
        if surplus > _OPUS_TOLERANCE or (surplus < -_OPUS_TOLERANCE and not page.flags & _LAST):
            what = f"declares {counted + surplus} samples and holds {counted}"
            raise damaged(name, f"the Ogg page at byte {page.start} {what}")
        last, counted = page.granule, 0


def _opus_samples(packet: bytes) -> int:
    """Returns the samples at 48 kHz of the packet with these first bytes."""
    if not packet:
        return 0
    code = packet[0] & 3
    count = 1 if code == 0 else 2 if code < 3 else packet[1] & 63 if len(packet) > 1 else 0
    return _OPUS_SAMPLES[packet[0] >> 3] * count
