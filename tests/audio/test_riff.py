"""WAV files whose sizes are wrong: what is read of them, and what is refused."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
import soundfile
from audio_files import encoded, noise, refusal, tone

from tfkd.audio.containers.lengths import is_placeholder
from tfkd.audio.reading import decode_recording

RATE_HZ = 16000
SAMPLES = noise(RATE_HZ)
KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "ULAW"),
    ("WAV", "FLOAT"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
]


def wav(samples: np.ndarray = SAMPLES, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    return encoded(samples, RATE_HZ, kind, subtype)


def with_size(data: bytes, size: int) -> bytes:
    """The file with another size of its samples in the header."""
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


def read(data: bytes):
    return decode_recording(data, name="clip.wav")


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
@pytest.mark.parametrize(
    "declared",
    [0, 2_000_000_000, 1_000_000_000, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFFDB, 0x80000000, 0x80000024]
    + [0xFFFFFFFF, 0xFFFFFFDB, 0xFFFFF000, 1 << 30, (1 << 28) - 1, 100_000_000],
)
def test_a_size_that_its_writer_did_not_know_is_passed_over(declared, subtype):
    whole = read(wav(subtype=subtype))
    recording = read(with_size(wav(subtype=subtype), declared))
    np.testing.assert_array_equal(recording.waveform, whole.waveform)
    (remark,) = recording.remarks
    assert "follow" in remark


def test_a_placeholder_in_every_size_is_passed_over():
    piped = bytearray(with_size(wav(), 0))
    piped[4:8] = bytes(4)
    assert read(bytes(piped)).waveform.size == RATE_HZ


def test_pythons_own_wave_module_leaves_such_a_size_in_a_pipe():
    class Pipe(io.BytesIO):
        def seek(self, *_):
            raise OSError

        def tell(self):
            raise OSError

    pipe = Pipe()
    with wave.open(pipe, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframesraw(np.int16(32767 * SAMPLES[:8000]).tobytes())
    assert read(pipe.getvalue()).waveform.size == 8000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_is_no_placeholder(share):
    data = wav(noise(10 * RATE_HZ))
    error = refusal(data[: int(share * len(data))])
    assert error.reason == "truncated_audio"
    assert not is_placeholder(1_500_000_000, 1_200_000_000)
    assert not is_placeholder(30_000_001, 1_000)


@pytest.mark.parametrize("surplus", [36, 44, -1])
def test_a_size_that_counts_headers_in_and_a_byte_that_is_missing_are_forgiven(surplus):
    data = wav()
    recording = read(with_size(data, 2 * RATE_HZ + surplus) if surplus > 0 else data[:surplus])
    assert recording.waveform.size >= RATE_HZ - 1
    assert recording.remarks


def test_the_size_of_a_long_header_may_be_counted_in():
    chunk = b"bext" + struct.pack("<I", 3000) + bytes(3000)
    data = wav()
    data = data[:12] + chunk + data[12:]
    assert read(with_size(data, len(data))).waveform.size == RATE_HZ
    assert refusal(with_size(data, len(data) + 900)).reason == "truncated_audio"


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_what_follows_the_declared_end_is_refused(kind, subtype):
    data = wav(kind=kind, subtype=subtype)
    assert "more audio than its header declares" in str(refusal(data + data))
    assert "more audio than its header declares" in str(refusal(data + data[-8000:]))


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_a_cut_file_is_refused(kind, subtype):
    data = wav(kind=kind, subtype=subtype)
    assert refusal(data[:-4000]).reason == "truncated_audio"


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_every_kind_is_read_whole(kind, subtype):
    data = wav(kind=kind, subtype=subtype)
    recording = read(data)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(recording.waveform, expected)
    assert recording.remarks == ()


def test_files_from_a_pipe_that_were_joined_are_refused():
    piped = with_size(wav(), 0xFFFFFFFF)
    assert "another header at byte" in str(refusal(piped + piped))


def test_a_header_that_declares_half_is_refused():
    assert "32000 bytes" not in str(refusal(with_size(wav(), RATE_HZ)))


@pytest.mark.parametrize(
    "tail",
    [bytes(2), bytes(5000), b"TAG" + bytes(125), b"ID3\x04" + bytes(300), b"\0"]
    + [b"LIST" + struct.pack("<I", 4) + b"INFO", b"id3 " + struct.pack("<I", 900) + bytes(5)],
)
def test_titles_and_filling_after_the_samples_are_no_audio(tail):
    assert read(wav() + tail).waveform.size == RATE_HZ


@pytest.mark.parametrize("kind", ["WAV", "W64", "AU", "AIFF", "CAF", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("start", [b"", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), bytes(900)])
def test_an_mp3_after_the_samples_is_no_title(kind, start):
    """Case: joined files, the second with a tag before its frames, as encoders of MP3 write it."""
    data = encoded(SAMPLES, RATE_HZ, kind) + start + encoded(SAMPLES, RATE_HZ, "MP3")
    assert refusal(data).reason in ("undecodable_audio", "truncated_audio")


def test_a_wav_after_a_tag_after_an_mp3_is_no_title():
    tag = b"TAG" + bytes(125)
    assert "another file begins" in str(refusal(encoded(SAMPLES, RATE_HZ, "MP3") + tag + wav()))


def test_the_length_of_mp3_in_a_wav_is_that_of_its_frames():
    frames = encoded(SAMPLES, RATE_HZ, "MP3")
    plain = decode_recording(frames, name="clip.mp3")
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE_HZ, 4000, 1, 0, 12, 1, 2, 576, 1, 0)
    body = b"fmt " + struct.pack("<I", len(form)) + form
    body += b"fact" + struct.pack("<II", 4, RATE_HZ + 5000)
    body += b"data" + struct.pack("<I", len(frames)) + frames + bytes(len(frames) % 2)
    body += b"LIST" + struct.pack("<I", 4) + b"INFO"
    recording = read(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    np.testing.assert_array_equal(recording.waveform, plain.waveform)
    assert recording.remarks == ()


def test_a_file_whose_samples_are_none_is_refused():
    empty = wav(np.zeros(0))
    assert "no samples" in str(refusal(empty))
    assert "no samples" in str(refusal(empty + b"LIST" + struct.pack("<I", 4) + b"INFO"))


def test_two_formats_that_differ_are_refused():
    """Decoders take one or the other, and so play it faster or slower."""
    data = wav()
    other = data[12:24] + (8000).to_bytes(4, "little") + data[28:36]
    assert "two formats that differ" in str(refusal(data[:36] + other + data[36:]))
    assert read(data[:36] + data[12:36] + data[36:]).waveform.size == len(SAMPLES)


def test_big_endian_riff_is_read():
    data = bytearray(wav(tone(RATE_HZ)))
    data[:4] = b"RIFX"
    for at, width in [
        (4, 4),
        (16, 4),
        (20, 2),
        (22, 2),
        (24, 4),
        (28, 4),
        (32, 2),
        (34, 2),
        (40, 4),
    ]:
        data[at : at + width] = data[at : at + width][::-1]
    samples = np.frombuffer(bytes(data[44:]), "<i2").astype(">i2").tobytes()
    turned = bytes(data[:44]) + samples
    np.testing.assert_array_equal(read(turned).waveform, read(wav(tone(RATE_HZ))).waveform)
    assert refusal(turned[:-1000]).reason == "truncated_audio"
    assert "more audio" in str(refusal(turned + turned))


@pytest.mark.parametrize("declared", [0, 24, 2**63, 2**64 - 1])
def test_wave64_of_a_size_that_its_writer_did_not_know_is_read(declared):
    data = wav(kind="W64")
    at = data.index(b"data") + 16
    recording = read(data[:at] + struct.pack("<Q", declared) + data[at + 8 :])
    np.testing.assert_array_equal(recording.waveform, read(data).waveform)
    assert recording.remarks


def test_the_length_in_ds64_is_the_length_of_rf64():
    data = wav(kind="RF64")
    at = data.index(b"ds64") + 16
    more = data[:at] + struct.pack("<Q", 4 * RATE_HZ) + data[at + 8 :]
    if data[data.index(b"data") + 4 :][:4] == b"\xff\xff\xff\xff":
        assert refusal(more).reason == "truncated_audio"
    unknown = data[:at] + b"\xff" * 8 + data[at + 8 :]
    assert read(unknown).waveform.size == RATE_HZ
