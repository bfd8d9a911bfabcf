"""MP3: its header's length is exact, and where there is none the frames tell it."""

from __future__ import annotations

import io
import struct

import miniaudio
import numpy as np
import pytest
import soundfile
from audio_files import noise, refusal

from tfkd.audio.containers.mp3_frames import _frame
from tfkd.audio.reading import decode_audio, decode_recording

RATE_HZ = 16000


def mp3(rate_hz: int = RATE_HZ, mode: str = "VARIABLE", seconds: int = 10) -> bytes:
    samples = noise(seconds * rate_hz)
    samples[rate_hz:] /= 1000  # Few bits a second after a first one of many.
    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, rate_hz, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode
    )
    return buffer.getvalue()


def frames_of(data: bytes) -> list[bytes]:
    frames, position = [], data.index(b"\xff")
    while (frame := _frame(data, position)) is not None:
        frames.append(data[position : position + frame.num_bytes])
        position += frame.num_bytes
    return frames


def test_a_file_that_lacks_frames_of_its_header_is_refused():
    frames = frames_of(mp3())
    for missing in (2, 3, 10, len(frames) // 2):
        error = refusal(b"".join(frames[:-missing]))
        assert error.reason == "truncated_audio"
        assert f"declares {len(frames) - 1} frames, {len(frames) - 1 - missing} follow" in str(
            error
        )


def test_a_byte_may_be_missing_at_the_end():
    recording = decode_recording(mp3()[:-1], name="clip.mp3")
    assert 10 * RATE_HZ - recording.waveform.size < 1152
    assert recording.remarks


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
def test_without_a_header_the_frames_give_the_length(rate_hz, mode):
    frames = frames_of(mp3(rate_hz, mode))
    data = b"".join(frames[1:])
    recording = decode_recording(data, name="clip.mp3")
    second, _ = decoded_by_miniaudio(data)
    # Decoders differ in what they do with the delay at the start: 529 samples and a frame.
    assert abs(recording.waveform.size - second.size) <= 529 + 1152
    shortest = min(recording.waveform.size, second.size)
    offset = second.size - recording.waveform.size
    ours, theirs = recording.waveform, second[max(0, offset) :]
    np.testing.assert_allclose(ours[4000:shortest][:9000], theirs[4000:shortest][:9000], atol=2e-4)


def decoded_by_miniaudio(data: bytes) -> tuple[np.ndarray, int]:
    decoded = miniaudio.mp3_read_f32(data)
    return np.asarray(decoded.samples, np.float32), decoded.sample_rate


def test_a_header_of_fraunhofer_gives_the_length():
    frames = frames_of(mp3())
    empty = bytearray(frames[0][:4].ljust(len(frames[0]), b"\0"))
    empty[36:62] = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, 0, len(frames) - 1).ljust(22, b"\0")
    data = b"".join([bytes(empty), *frames[1:]])
    assert abs(decode_audio(data, name="clip.mp3")[0].size - 10 * RATE_HZ) < 3 * 1152
    assert refusal(b"".join([bytes(empty), *frames[1:-9]])).reason == "truncated_audio"


def test_a_header_that_a_killed_writer_left_without_a_length_is_passed_over():
    data = bytearray(mp3(seconds=2))
    at = data.index(b"Xing") + 8
    data[at : at + 4] = bytes(4)
    recording = decode_recording(bytes(data), name="clip.mp3")
    assert 0 <= recording.waveform.size - 2 * RATE_HZ <= 1152 + 1152
    assert "declares no frames" in recording.remarks[0]


def test_damage_between_frames_is_found():
    frames = frames_of(mp3())
    for place in (1, 20, len(frames) - 6):
        broken = [*frames[:place], b"\0" + frames[place][1:], *frames[place + 1 :]]
        assert "between its frames" in str(refusal(b"".join(broken)))


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_joined_files_are_refused_or_read_whole(rate_hz):
    first = mp3()
    assert "more audio than its header declares" in str(refusal(first + mp3(rate_hz)))
    # Without headers, two streams of one kind are one stream.
    bare = b"".join(frames_of(first)[1:])
    once, twice = (decode_audio(bare * times, name="clip")[0].size for times in (1, 2))
    assert twice - 2 * once in (0, 529)


@pytest.mark.parametrize("other", ["WAV", "FLAC", "OGG", "CAF"])
def test_a_file_of_another_kind_at_the_end_is_refused(other):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(RATE_HZ), RATE_HZ, format=other)
    assert "another file begins at byte" in str(refusal(mp3() + buffer.getvalue()))


def test_an_end_within_a_frame_is_said_where_no_header_gives_the_length():
    bare = b"".join(frames_of(mp3())[1:])
    assert decode_recording(bare, name="clip").remarks == ()
    (remark,) = decode_recording(bare[:-40], name="clip").remarks
    assert "ends within a frame" in remark


def test_what_is_no_frame_after_the_last_one_is_said():
    (remark,) = decode_recording(mp3() + b"no frame" * 100, name="clip").remarks
    assert remark == "800 bytes after its last frame are no frames"


def test_a_picture_before_the_frames_is_passed_over():
    tag = b"ID3\x04\0\0\0\x04\0\0" + bytes(0x10000)
    assert decode_audio(tag + mp3(), name="clip.mp3")[0].size == 10 * RATE_HZ
