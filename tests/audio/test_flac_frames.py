"""FLAC: the length comes from the frames, and no frame may be missing, changed or left over."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from audio_files import encoded, noise, refusal, tone

from tfkd.audio.containers.flac_frames import _crc16
from tfkd.audio.reading import decode_audio, decode_recording

RATE_HZ = 16000
SAMPLES = noise(3 * RATE_HZ)
MD5 = slice(26, 42)


def flac(samples: np.ndarray = SAMPLES, subtype: str = "PCM_16") -> bytes:
    return encoded(samples, RATE_HZ, "FLAC", subtype)


def without_length(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def without_md5(data: bytes) -> bytes:
    return data[: MD5.start] + bytes(16) + data[MD5.stop :]


def frame_starts(data: bytes) -> list[int]:
    """Found by their checksums alone: each run between two of these places is a whole frame."""
    places = [match.start() for match in re.finditer(rb"\xff[\xf8\xf9]", data)] + [len(data)]
    starts = [places[0]]
    for place in places[1:]:
        if _crc16(data[starts[-1] : place]) == 0:
            starts.append(place)
    return starts[:-1]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_S8"])
@pytest.mark.parametrize("samples", [SAMPLES, tone(RATE_HZ, 2.0, channels=2)], ids=["one", "two"])
def test_a_flac_without_a_length_is_read_whole(samples, subtype):
    data = flac(samples, subtype)
    recording = decode_recording(without_length(data), name="clip.flac")
    np.testing.assert_array_equal(recording.waveform, decode_audio(data, name="clip.flac")[0])
    assert recording.remarks == ("the header gives no length, the frames do",)


def test_a_part_of_a_flac_without_a_length_is_read():
    data = without_length(flac())
    part = decode_recording(data, name="clip", start_seconds=1.0, end_seconds=2.5).waveform
    whole = decode_audio(flac(), name="clip")[0]
    np.testing.assert_array_equal(part, whole[RATE_HZ : 5 * RATE_HZ // 2])


@pytest.mark.parametrize("has_length", [True, False])
def test_no_frame_may_be_missing(has_length):
    data = without_md5(flac())
    data = data if has_length else without_length(data)
    starts = frame_starts(data)
    assert len(starts) == -(-len(SAMPLES) // 4096)
    ends = [*starts[1:], len(data)]
    for start, end in zip(starts[:-1], ends[:-1], strict=True):
        error = refusal(data[:start] + data[end:])
        assert "missing" in str(error) or "follow" in str(error)
    if has_length:
        assert refusal(data[: starts[-1]]).reason == "truncated_audio"


def test_no_frame_may_come_twice():
    data = without_md5(flac())
    starts = frame_starts(data)
    again = data[: starts[3]] + data[starts[2] :]
    assert "frame 2 a second time" in str(refusal(again))


@pytest.mark.parametrize("other", [SAMPLES, noise(1000), tone(RATE_HZ, channels=2)])
def test_joined_files_are_not_read_as_the_first_of_them(other):
    for data in (flac(), without_length(flac())):
        assert "more audio than its header declares" in str(refusal(data + flac(other)))


def test_frames_after_the_declared_end_are_refused():
    data = flac()
    starts = frame_starts(data)
    declared = int.from_bytes(data[21:26], "big") - 4096 * 3
    assert "declared" in str(refusal(data[:21] + declared.to_bytes(5, "big") + data[26:]))
    assert len(starts) > 3


def test_a_cut_of_a_flac_without_a_length_is_refused_wherever_it_is():
    data = without_length(without_md5(flac(noise(9000))))
    starts = frame_starts(data)
    # At the end of a frame nothing tells that there was more: the format has no word for it.
    for end in range(starts[0] + 1, len(data), 97):
        if end not in starts:
            refusal(data[:end])


def test_changed_bytes_are_found_by_checksums():
    data = flac(noise(20_000))
    for place in range(frame_starts(data)[0], len(data), 401):
        refusal(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])


def test_samples_that_are_not_those_of_the_md5_are_refused():
    data = flac()
    other = data[: MD5.start] + flac(noise(500))[MD5] + data[MD5.stop :]
    assert "MD5" in str(refusal(other))


@pytest.mark.parametrize(
    "tail", [bytes(2), bytes(4000), b"TAG" + bytes(125), b"APETAGEX" + bytes(90)]
)
def test_tags_and_filling_after_the_frames_are_no_audio(tail):
    assert decode_audio(flac() + tail, name="clip.flac")[0].size == len(SAMPLES)


def test_a_tag_before_the_file_is_passed_over():
    tag = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)
    np.testing.assert_array_equal(
        decode_audio(tag + flac(), name="clip")[0], decode_audio(flac(), name="clip")[0]
    )


@pytest.mark.skipif(not shutil.which("flac"), reason="needs flac")
@pytest.mark.parametrize("options", [[], ["--lax", "-b", "1000"], ["-8"], ["--ogg"]])
def test_what_flac_writes_into_a_pipe_is_read(tmp_path, options):
    raw = np.int16(32767 * SAMPLES).tobytes()
    form = ["--endian=little", "--sign=signed", "--channels=1", "--bps=16", "--sample-rate=16000"]
    command = ["flac", "-s", "-c", *options, "--force-raw-format", *form, "-"]
    piped = subprocess.run(command, input=raw, capture_output=True, check=True).stdout
    waveform, _ = decode_audio(piped, name="clip.flac")
    np.testing.assert_array_equal(waveform, np.frombuffer(raw, "<i2") / np.float32(32768))
