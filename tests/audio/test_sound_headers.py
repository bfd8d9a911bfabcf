"""AU, CAF, AIFF and SPHERE: sizes that are wrong, and what follows the declared end."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from audio_files import encoded, noise, refusal

from tfkd.audio.reading import decode_recording

RATE_HZ = 16000
SAMPLES = noise(RATE_HZ)
KINDS = ["AU", "CAF", "AIFF", "NIST"]
# Where the size of the samples stands: after these letters, and as this.
SIZES = {"AU": (b".snd\0\0\0\x18", ">I", 0), "CAF": (b"data", ">q", 4), "AIFF": (b"SSND", ">I", 8)}


def with_size(data: bytes, kind: str, size: int) -> bytes:
    letters, form, extra = SIZES[kind]
    at = data.index(letters) + len(letters)
    width = struct.calcsize(form)
    value = struct.pack(form, size if size < 0 or size + extra > 0xFFFFFFFF else size + extra)
    return data[:at] + value + data[at + width :]


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_whole(kind, subtype):
    data = encoded(SAMPLES, RATE_HZ, kind, subtype)
    recording = decode_recording(data, name="clip")
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(recording.waveform, expected)
    assert recording.remarks == ()


@pytest.mark.parametrize("rate", [b"\xff" * 8, struct.pack(">d", -np.inf), struct.pack(">d", 0)])
def test_a_rate_of_a_caf_that_is_no_number_is_one_line(rate):
    data = encoded(SAMPLES, RATE_HZ, "CAF", "PCM_16")
    at = data.index(struct.pack(">d", RATE_HZ))
    assert refusal(data[:at] + rate + data[at + 8 : -400]).reason in (
        *("undecodable_audio", "truncated_audio"),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_declared_end_is_refused(kind):
    data = encoded(SAMPLES, RATE_HZ, kind, "PCM_16")
    assert "more audio than its header declares" in str(refusal(data + data))
    assert "more audio than its header declares" in str(refusal(data + data[-9000:]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_refused(kind):
    data = encoded(SAMPLES, RATE_HZ, kind, "PCM_16")
    for share in (0.3, 0.9, 0.98):
        assert refusal(data[: int(share * len(data))]).reason == "truncated_audio"


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("declared", [0, 2_000_000_000, 0x7FFFFFF0, 0xFFFFFFF0])
def test_a_size_that_its_writer_did_not_know_is_passed_over(kind, declared):
    data = encoded(SAMPLES, RATE_HZ, kind, "PCM_16")
    whole = decode_recording(data, name="clip").waveform
    # libsndfile puts chunks after the samples of an AIFF; a killed recorder does not.
    recording = decode_recording(with_size(data, kind, declared), name="clip")
    np.testing.assert_array_equal(recording.waveform[: len(whole)], whole)
    assert len(recording.waveform) - len(whole) < 100
    assert recording.remarks


@pytest.mark.parametrize(("kind", "size"), [("AU", 0xFFFFFFFF), ("CAF", -1)])
def test_a_size_that_means_to_the_end_needs_no_remark(kind, size):
    data = with_size(encoded(SAMPLES, RATE_HZ, kind, "PCM_16"), kind, size)
    recording = decode_recording(data, name="clip")
    assert (recording.waveform.size, recording.remarks) == (RATE_HZ, ())
    assert "another header" in str(refusal(data + data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_may_be_missing_at_the_end(kind):
    data = encoded(SAMPLES, RATE_HZ, kind, "PCM_16")
    recording = decode_recording(data[:-1], name="clip")
    assert recording.waveform.size in (RATE_HZ - 1, RATE_HZ)


def test_a_byte_that_is_missing_of_packed_audio_takes_a_packet_with_it():
    data = encoded(SAMPLES, RATE_HZ, "CAF", "ALAC_16")
    assert decode_recording(data, name="clip").waveform.size == len(SAMPLES)
    assert refusal(data[:-30]).reason == "truncated_audio"


@pytest.mark.parametrize("kind", KINDS)
def test_a_tag_after_the_samples_is_not_read_as_samples(kind):
    data = encoded(SAMPLES, RATE_HZ, kind, "PCM_16") + b"TAG" + bytes(range(125))
    assert decode_recording(data, name="clip").waveform.size == len(SAMPLES)


@pytest.mark.parametrize("declared", [0, 1 << 30, 2_000_000_000])
def test_sphere_of_a_length_that_its_writer_did_not_know_is_read(declared):
    data = encoded(SAMPLES, RATE_HZ, "NIST", "PCM_16")
    head, old = data[:1024], b"sample_count -i 16000"
    assert old in head
    new = head.replace(old, f"sample_count -i {declared}".encode())
    head = new.rstrip(b"\0").ljust(1024, b"\0")[:1024]
    recording = decode_recording(head + data[1024:], name="clip")
    np.testing.assert_array_equal(recording.waveform, decode_recording(data, name="c").waveform)
    assert recording.remarks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_several_channels_are_nothing_to_remark_on(kind, subtype):
    channels = np.stack([SAMPLES, SAMPLES, SAMPLES], axis=-1)[:4007]
    recording = decode_recording(encoded(channels, RATE_HZ, kind, subtype), name="clip")
    assert recording.waveform.size == 4007
    assert not any("declares" in remark for remark in recording.remarks)


@pytest.mark.parametrize("kind", ["VOC", "IRCAM", "AVR"])
def test_of_kinds_that_are_not_checked_that_is_said(kind):
    recording = decode_recording(encoded(SAMPLES, RATE_HZ, kind, "PCM_16"), name="clip")
    assert recording.waveform.size == RATE_HZ
    assert "is not checked here" in recording.remarks[0]


@pytest.mark.parametrize("packer", ["shorten-v2.00", "wavpack"])
def test_sphere_that_is_compressed_is_named(packer):
    data = encoded(SAMPLES, RATE_HZ, "NIST", "PCM_16")
    coding = f"sample_coding -s{len(packer) + 13} pcm,embedded-{packer}\nend_head\n".encode()
    packed = data.replace(b"end_head\n", coding)[: 1024 + 32]
    error = refusal(packed)
    assert packer.partition("-")[0] in str(error)
    assert "sph2pipe" in str(error)
