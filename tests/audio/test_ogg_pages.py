"""Ogg: every damaged, missing, repeated or foreign page is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from audio_files import encoded, noise, refusal

from tfkd.audio.reading import decode_audio

RATE_HZ = 16000
SAMPLES = noise(8 * RATE_HZ)


@pytest.fixture(params=["VORBIS", "OPUS"], scope="module")
def ogg(request) -> bytes:
    return encoded(SAMPLES, RATE_HZ, "OGG", request.param)


def pages_of(data: bytes) -> list[bytes]:
    pages, position = [], 0
    while position < len(data):
        count = data[position + 26]
        size = 27 + count + sum(data[position + 27 : position + 27 + count])
        pages.append(data[position : position + size])
        position += size
    return pages


def sealed(page: bytes, number: int | None = None, granule: int | None = None) -> bytes:
    """The page with another number or granule position, and the checksum that RFC 3533 gives."""
    page = bytearray(page)
    if number is not None:
        page[18:22] = struct.pack("<I", number)
    if granule is not None:
        page[6:14] = struct.pack("<Q", granule)
    page[22:26] = bytes(4)
    crc = 0
    for octet in page:
        crc ^= octet << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", crc)
    return bytes(page)


def test_a_whole_file_is_read(ogg):
    assert decode_audio(ogg, name="clip.ogg")[0].size == len(SAMPLES)
    # The checksum of this test is that of the encoder.
    assert [sealed(page) for page in pages_of(ogg)] == pages_of(ogg)


def test_a_bit_that_fell_over_is_found_in_every_page(ogg):
    position = 0
    for page in pages_of(ogg):
        place = position + len(page) // 2
        damaged = ogg[:place] + bytes([ogg[place] ^ 1]) + ogg[place + 1 :]
        refusal(damaged)
        position += len(page)


def test_no_page_may_be_missing_or_come_twice(ogg):
    pages = pages_of(ogg)
    assert len(pages) > 4
    for number in range(len(pages)):
        refusal(b"".join(pages[:number] + pages[number + 1 :]))
        refusal(b"".join([*pages[: number + 1], *pages[number:]]))


def test_a_file_that_ends_between_two_pages_is_refused(ogg):
    pages = pages_of(ogg)
    for number in range(3, len(pages)):
        error = refusal(b"".join(pages[:number]))
        assert error.reason == "truncated_audio"
        assert "no page ends the stream" in str(error)


def test_a_missing_page_is_found_though_the_rest_was_numbered_anew(ogg):
    pages = pages_of(ogg)
    kept = pages[:4] + pages[5:]
    refusal(b"".join(sealed(page, number) for number, page in enumerate(kept)))


def test_audio_that_ends_before_it_did_is_refused(ogg):
    pages = pages_of(ogg)
    back = [*pages[:-1], sealed(pages[-1], granule=500)]
    assert "then at 500" in str(refusal(b"".join(back)))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_stream_after_the_end_of_another_is_refused(ogg, subtype):
    other = encoded(noise(RATE_HZ), RATE_HZ, "OGG", subtype)
    assert "more audio than its header declares" in str(refusal(ogg + other))


def test_a_last_page_that_does_not_say_where_it_ends_is_refused(ogg):
    *pages, last = pages_of(ogg)
    unsaid = b"".join([*pages, sealed(last, granule=2**64 - 1)])
    assert "does not say where its audio ends" in str(refusal(unsaid))


def test_of_streams_side_by_side_none_is_lost_in_silence(ogg):
    """A recorder of several speakers gives each a stream; decoders read the first alone."""
    pages = pages_of(ogg)
    others = [sealed(page[:14] + b"abcd" + page[18:]) for page in pages]
    both = b"".join(page for pair in zip(pages, others, strict=True) for page in pair)
    assert "holds 2 streams of audio side by side (write each" in str(refusal(both))


def test_bytes_between_pages_are_damage(ogg):
    pages = pages_of(ogg)
    assert "begins no Ogg page" in str(refusal(b"".join([*pages[:3], b"12345678", *pages[3:]])))


@pytest.mark.parametrize("tail", [bytes(100), b"TAG" + bytes(125)])
def test_filling_after_the_last_page_is_no_audio(ogg, tail):
    assert decode_audio(ogg + tail, name="clip.ogg")[0].size == len(SAMPLES)


def test_the_decoder_never_repeats_what_it_has_read(ogg):
    waveform, _ = decode_audio(ogg, name="clip.ogg")
    pieces = waveform[: len(waveform) // 1600 * 1600].reshape(-1, 1600)
    alike = np.corrcoef(pieces) - np.eye(len(pieces))
    assert np.abs(alike).max() < 0.5
