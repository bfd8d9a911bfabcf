"""Decoding with real decoders, resampling against sines, and what is refused."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import encoded, noise, refusal, tone

from tfkd.audio import decoders, reading, resampling
from tfkd.audio.flac import encode_flac
from tfkd.audio.reading import (
    LastFile,
    decode_audio,
    decode_recording,
    read_audio,
    read_recording,
)
from tfkd.audio.resampling import resample
from tfkd.audio.unusable import UnusableAudio
from tfkd.audio.waveforms import check_waveform
from tfkd.errors import AudioError

RATES_HZ = (8000, 16000, 44100)
WAV_ENCODINGS = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-24, "FLOAT": 0}


def frequency_hz(waveform: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(waveform.size)))
    return float(spectrum.argmax() * rate_hz / waveform.size)


def without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def refuse(name, *arguments):
        if name == "soundfile":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", refuse)


# --- decoding


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", WAV_ENCODINGS)
def test_wav_gives_the_samples_that_libsndfile_gives(format, subtype, channels, rate_hz):
    samples = tone(rate_hz, channels=channels)
    data = encoded(samples, rate_hz, format, subtype)
    waveform, found_hz = decode_audio(data, name="clip.wav")
    reference, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert (found_hz, waveform.dtype, waveform.shape) == (rate_hz, np.float32, (len(samples),))
    np.testing.assert_array_equal(waveform, reference.mean(axis=1, dtype=np.float32))
    expected = samples if channels == 1 else samples.mean(axis=1)
    np.testing.assert_allclose(waveform, expected, atol=WAV_ENCODINGS[subtype] + 1e-7)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_is_lossless(subtype, channels, rate_hz):
    samples = tone(rate_hz, channels=channels)
    waveform, found_hz = decode_audio(encoded(samples, rate_hz, "FLAC", subtype), name="clip.flac")
    assert found_hz == rate_hz
    expected = samples if channels == 1 else samples.mean(axis=1)
    np.testing.assert_allclose(waveform, expected, atol=WAV_ENCODINGS[subtype] + 1e-7)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("format", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_lossy_formats_keep_length_level_and_pitch(format, subtype, channels, rate_hz):
    if subtype == "OPUS" and rate_hz == 44100:
        pytest.skip("Opus has no 44.1 kHz")
    samples = tone(rate_hz, seconds=1.0, channels=channels)
    waveform, found_hz = decode_audio(encoded(samples, rate_hz, format, subtype), name="clip")
    assert (found_hz, waveform.size) == (rate_hz, rate_hz)
    assert frequency_hz(waveform, rate_hz) == pytest.approx(440, abs=1)
    expected = samples if channels == 1 else samples.mean(axis=1)
    assert waveform.std() == pytest.approx(expected.std(), rel=0.05)


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM", "DOUBLE"])
def test_other_wav_encodings_go_to_libsndfile(subtype):
    waveform, _ = decode_audio(encoded(tone(8000), 8000, "WAV", subtype), name="clip.wav")
    # ADPCM needs some samples to find its step.
    np.testing.assert_allclose(waveform[100:4000], tone(8000)[100:], atol=0.05)


def test_chunks_before_and_after_the_samples_are_passed_over():
    data = encoded(tone(8000), 8000, "WAV", "PCM_16")
    odd = b"LIST" + struct.pack("<I", 5) + b"aaaaa\0"
    waveform, _ = decode_audio(data[:12] + odd + data[12:] + odd, name="clip.wav")
    np.testing.assert_array_equal(waveform, decode_audio(data, name="clip.wav")[0])


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read_to_its_end(declared):
    data = encoded(tone(8000), 8000, "WAV", "PCM_16")
    size_at = data.index(b"data") + 4
    piped = data[:size_at] + struct.pack("<I", declared) + data[size_at + 4 :]
    assert decode_audio(piped, name="clip.wav")[0].size == 4000


def test_hundredth_of_a_second_is_decoded():
    for format in ("WAV", "FLAC", "OGG", "MP3"):
        assert decode_audio(encoded(tone(16000, 0.01), 16000, format), name="clip")[0].size == 160


@pytest.mark.parametrize(("peak", "said"), [(1.05, []), (3.0, ["3.00 times full scale"])])
def test_floats_over_full_scale_are_clipped_and_that_is_said_where_it_is_heard(peak, said, caplog):
    whole = tone(8000)
    waveform, _ = decode_audio(
        encoded(peak * whole / np.abs(whole).max(), 8000, "WAV", "FLOAT"), name="clip"
    )
    assert np.abs(waveform).max() == 1.0
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(said)
    assert all(words in message for words, message in zip(said, messages, strict=True))


def test_floats_that_were_never_scaled_are_refused():
    error = refusal(encoded(32768 * tone(8000), 8000, "WAV", "FLOAT"))
    assert error.reason == "unscaled_audio"
    assert "scale the samples" in str(error)


def test_implausible_rates_are_refused():
    data = encoded(tone(8000), 8000, "WAV", "PCM_16")
    at = data.index(b"fmt ") + 12
    for rate_hz in (0, 999, 96_001, 384_100):
        error = refusal(data[:at] + struct.pack("<I", rate_hz) + data[at + 4 :])
        assert error.reason == "undecodable_audio"
        assert f"implausible sample rate {rate_hz} Hz" in str(error)


# --- damage


@pytest.mark.parametrize("samples", [noise(48000), tone(16000, 3.0)], ids=["noise", "tone"])
def test_a_truncated_flac_is_refused_wherever_it_ends(samples):
    data = encoded(samples, 16000, "FLAC", "PCM_16")
    shares = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
    ends = {1, 4, 41, 42, 43, 100, len(data) - 1000, len(data) - 2, len(data) - 1}
    for end in sorted(ends | {int(share * len(data)) for share in shares} - {0}):
        assert refusal(data[:end]).reason in ("undecodable_audio", "truncated_audio"), end


def test_a_flac_cut_between_frames_is_refused():
    data = encoded(noise(48000), 16000, "FLAC", "PCM_16")
    frame_starts = [match.start() for match in re.finditer(rb"\xff\xf8", data)]
    assert len(frame_starts) >= 10
    for end in frame_starts:
        refusal(data[:end])


def test_fewer_frames_than_the_header_declares_are_refused(monkeypatch):
    """Not every libsndfile reports an error itself."""
    data = encoded(noise(48000), 16000, "FLAC", "PCM_16")
    real_read = soundfile.SoundFile.read

    def short_read(source, frames, **options):
        return real_read(source, min(frames, 40000 - source.tell()), **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", short_read)
    error = refusal(data)
    assert error.reason == "truncated_audio"
    assert "declares 48000 samples, but 40000 follow" in str(error)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None)]
)
@pytest.mark.parametrize("channel", [None, 1])
def test_blocks_do_not_change_what_is_read(monkeypatch, format, subtype, channel):
    data = encoded(tone(16000, 1.0, channels=2), 16000, format, subtype)
    whole = decode_recording(data, name="clip", channel=channel)
    monkeypatch.setattr(decoders, "_BLOCK_FRAMES", 1001)
    in_blocks = decode_recording(data, name="clip", channel=channel)
    np.testing.assert_array_equal(in_blocks.waveform, whole.waveform)
    assert in_blocks.remarks == whole.remarks


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_a_long_recording_of_two_channels_takes_the_memory_of_one(format):
    rate_hz = 44100
    data = encoded(tone(rate_hz, 300.0, channels=2), rate_hz, format, "PCM_16")
    tracemalloc.start()
    try:
        waveform, _ = decode_audio(data, name="clip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * waveform.nbytes


def test_a_header_that_declares_too_much_needs_no_memory():
    data = bytearray(encoded(noise(16000), 16000, "FLAC", "PCM_16"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    refusal(bytes(data))


@pytest.mark.parametrize("end", [20, 43, 44, 45, 1000, -322])
def test_a_truncated_wav_is_refused(end):
    assert refusal(encoded(tone(8000), 8000, "WAV", "PCM_16")[:end]).reason == "truncated_audio"


@pytest.mark.parametrize("format", ["OGG", "MP3"])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9])
def test_a_truncated_lossy_file_is_refused(format, share):
    data = encoded(noise(160000), 16000, format)
    refusal(data[: int(share * len(data))])


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_joined_files_are_not_read_as_the_first_of_them(format, rate_hz):
    # Each Ogg file has a number of its own.
    error = refusal(b"".join(encoded(noise(3 * rate_hz), rate_hz, format) for _ in range(2)))
    assert error.reason == "undecodable_audio"
    assert "more audio than its header declares" in str(error)


@pytest.mark.parametrize("tag", [b"TAG" + b"x" * 125, bytes(50_000), noise(6000).tobytes()])
def test_what_follows_the_frames_of_an_mp3_is_no_audio(tag):
    data = encoded(noise(48_000), 16_000, "MP3")
    assert decode_audio(data + tag, name="clip.mp3")[0].size == 48_000


@pytest.mark.parametrize("format", ["WAV", "FLAC", "MP3"])
def test_what_is_far_too_long_is_not_decoded(format, tmp_path, monkeypatch):
    path = tmp_path / "long.xyz"
    path.write_bytes(encoded(noise(48_000), 16_000, format))
    assert read_audio(path, sample_rate_hz=16_000, max_seconds=2.0).size == 48_000
    part = read_audio(path, sample_rate_hz=16_000, end_seconds=0.5, max_seconds=1.0)
    assert part.size == 8_000
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    monkeypatch.setattr(decoders, "_pcm_samples", None)
    with pytest.raises(UnusableAudio, match="3.000 s of audio, longer than 1.9 s") as caught:
        read_audio(path, sample_rate_hz=16_000, max_seconds=1.9)
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"this is no audio\n" * 100, b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3"],
)
def test_what_is_no_audio_is_refused(data, tmp_path):
    refusal(data)
    path = tmp_path / "text.wav"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="text.wav: "):
        read_audio(path, sample_rate_hz=16000)


def test_a_file_without_samples_is_refused():
    assert "no samples" in str(refusal(encoded(np.zeros(0), 8000, "WAV", "PCM_16")))


def test_errors_name_no_memory_address():
    message = str(refusal(bytes(range(256)) * 100))
    assert "0x" not in message
    assert "not recognised" in message


def test_damaged_bytes_never_raise_anything_else():
    random = np.random.default_rng(1)
    for format in ("WAV", "FLAC", "OGG", "MP3"):
        whole = np.frombuffer(encoded(noise(4000), 16000, format), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            places = random.integers(0, min(len(whole), 200), 4)
            damaged[places] = random.integers(0, 256, 4)
            try:
                waveform, rate_hz = decode_audio(damaged.tobytes(), name="clip")
            except AudioError:
                continue
            assert (waveform.ndim, waveform.dtype, rate_hz > 0) == (1, np.float32, True)


# --- without soundfile


@pytest.mark.parametrize("subtype", WAV_ENCODINGS)
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
def test_plain_wav_needs_no_soundfile(monkeypatch, format, subtype):
    data = encoded(tone(16000, channels=2), 16000, format, subtype)
    with_soundfile = decode_audio(data, name="clip.wav")
    without_soundfile(monkeypatch)
    waveform, rate_hz = decode_audio(data, name="clip.wav")
    assert rate_hz == with_soundfile[1]
    np.testing.assert_array_equal(waveform, with_soundfile[0])


def test_the_wave_module_agrees(tmp_path):
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<4h", 0, 16384, -32768, 32767))
    waveform, _ = decode_audio(path.read_bytes(), name="clip.wav")
    np.testing.assert_array_equal(waveform, np.float32([0, 0.5, -1, 32767 / 32768]))


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", None), ("OGG", None), ("WAV", "ULAW")])
def test_other_formats_name_the_remedy(monkeypatch, format, subtype):
    data = encoded(tone(16000), 16000, format, subtype)
    without_soundfile(monkeypatch)
    assert "(pip install soundfile)" in str(refusal(data))


def test_flac_cannot_be_written_without_soundfile(monkeypatch):
    without_soundfile(monkeypatch)
    with pytest.raises(AudioError, match="pip install soundfile"):
        encode_flac(tone(16000), 16000)


def test_reading_wav_imports_nothing_but_numpy(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(8000), 8000, subtype="PCM_16")
    code = (
        "import sys; from tfkd.audio.reading import read_audio; read_audio(sys.argv[1],"
        "sample_rate_hz=16000); print(*{name.partition('.')[0] for name in sys.modules})"
    )
    root = Path(__file__).parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, check=True
    ).stdout.decode()
    assert not {"soundfile", "tensorflow", "yaml", "sentencepiece"} & set(loaded.split())


# --- files


def test_files_are_read_at_the_rate_asked_for(tmp_path):
    for rate_hz in RATES_HZ:
        path = tmp_path / f"{rate_hz}.flac"
        soundfile.write(path, tone(rate_hz, 1.0, channels=2), rate_hz)
        waveform = read_audio(path, sample_rate_hz=16000)
        assert (waveform.shape, waveform.dtype) == ((16000,), np.float32)
        assert frequency_hz(waveform, 16000) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_a_part_is_what_the_whole_holds_there(tmp_path, format):
    path = tmp_path / f"clip.{format}"
    soundfile.write(path, noise(32000), 16000)
    whole = read_audio(path, sample_rate_hz=16000)
    part = read_audio(path, sample_rate_hz=16000, start_seconds=0.5, end_seconds=1.25)
    np.testing.assert_allclose(part, whole[8000:20000], atol=1e-6)
    tail = read_audio(path, sample_rate_hz=16000, start_seconds=1.5)
    np.testing.assert_allclose(tail, whole[24000:], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_part_of_an_mp3_does_not_lack_what_the_frames_before_it_left(tmp_path, rate_hz):
    loudness = np.repeat(np.random.default_rng(1).uniform(0, 1, 60) ** 4, rate_hz // 5)
    path = tmp_path / "clip.mp3"
    soundfile.write(path, loudness * noise(loudness.size), rate_hz, bitrate_mode="VARIABLE")
    whole = read_audio(path, sample_rate_hz=rate_hz)
    for start in np.arange(0.3, 11.5, 0.37):
        part = read_audio(
            path, sample_rate_hz=rate_hz, start_seconds=start, end_seconds=start + 0.4
        )
        first = round(start * rate_hz)
        np.testing.assert_allclose(part, whole[first : first + part.size], atol=1e-4)


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_32"])
def test_codecs_that_can_only_be_read_from_the_start_have_parts_too(tmp_path, subtype):
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(8000, 4.0), 8000, subtype=subtype)
    whole = read_audio(path, sample_rate_hz=8000)
    part = read_audio(path, sample_rate_hz=8000, start_seconds=1.5, end_seconds=2.5)
    np.testing.assert_array_equal(part, whole[12000:20000])


FOLLOWING = [(0, 1), (1, 2.5), (2.5, 3), (4, 5), (4.5, 6), (3, 4), (11, 11.5), (11.5, 12)]


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "ULAW"),
        ("WAV", "GSM610"),
        ("FLAC", None),
        ("OGG", None),
        ("MP3", None),
    ],
)
def test_parts_that_are_read_in_turn_are_those_that_are_read_alone(tmp_path, format, subtype):
    path = tmp_path / f"call.{format.lower()}"
    path.write_bytes(encoded(noise(96000), 8000, format, subtype))
    spans = [{"start_seconds": start, "end_seconds": end} for start, end in FOLLOWING]
    alone = [read_recording(path, **span).waveform for span in spans]
    with LastFile() as last:
        for span, expected in zip(spans, alone, strict=True):
            part = read_recording(path, last=last, **span).waveform
            np.testing.assert_allclose(part, expected, atol=1e-6)  # MP3 rounds otherwise.


def opened(monkeypatch) -> list[str]:
    """Lists the files that a decoder opens from now on."""
    names, open_ = [], decoders.AudioFile._open
    monkeypatch.setattr(
        decoders.AudioFile, "_open", lambda self: names.append(self._name) or open_(self)
    )
    return names


def test_parts_in_order_cost_one_pass_of_the_decoder(tmp_path, monkeypatch):
    path = tmp_path / "talk.mp3"
    path.write_bytes(encoded(noise(160000), 8000, "MP3"))
    names = opened(monkeypatch)
    with LastFile() as last:
        for start in range(0, 20, 2):
            read_recording(path, start_seconds=start, end_seconds=start + 2, last=last)
        assert len(names) == 1
        read_recording(path, start_seconds=1, end_seconds=2, last=last)
        assert len(names) == 2


def test_a_file_that_has_changed_is_opened_anew(tmp_path):
    path = tmp_path / "talk.flac"
    with LastFile() as last:
        for sound in (noise(8000), 0.5 * noise(9000)):
            path.write_bytes(encoded(sound, 8000, "FLAC"))
            read = read_recording(path, last=last).waveform
            np.testing.assert_allclose(read, sound, atol=1e-4)


def test_a_part_that_cannot_be_read_leaves_those_after_it_alone(tmp_path):
    path = tmp_path / "talk.ogg"
    path.write_bytes(encoded(noise(32000), 8000, "OGG"))
    with LastFile() as last:
        first = read_recording(path, end_seconds=1, last=last)
        with pytest.raises(UnusableAudio, match="does not lie in"):
            read_recording(path, start_seconds=5, end_seconds=6, last=last)
        with pytest.raises(UnusableAudio, match="no such file"):
            read_recording(tmp_path / "other.ogg", last=last)
        again = read_recording(path, end_seconds=1, last=last)
    np.testing.assert_array_equal(again.waveform, first.waveform)


def test_a_damaged_recording_is_examined_once_for_all_of_its_segments(tmp_path, monkeypatch):
    path = tmp_path / "talk.flac"
    soundfile.write(path, noise(160000), 16000)
    path.write_bytes(path.read_bytes()[:-5000])
    examined, examine = [], reading.examine
    monkeypatch.setattr(reading, "examine", lambda *given: examined.append(1) or examine(*given))
    for start in range(5):
        with pytest.raises(UnusableAudio) as caught:
            read_audio(path, sample_rate_hz=16000, start_seconds=start, end_seconds=start + 1)
        assert caught.value.reason == "truncated_audio"
    assert len(examined) == 1


def test_a_part_may_end_a_little_late(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(16000), 16000)
    part = read_audio(path, sample_rate_hz=16000, start_seconds=0.5, end_seconds=1.4)
    assert part.size == 8000


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize(
    ("start", "end"),
    [(1.0, None), (2, 3), (0, 1.6), (0.5, 0.5), (0.6, 0.5), (-1, 1), (0.5, 0.50001)]
    + [(math.nan, None), (0, math.nan), (math.inf, None), (0, math.inf)],
)
def test_a_part_outside_the_recording_is_refused(tmp_path, start, end, format):
    path = tmp_path / f"clip.{format}"
    soundfile.write(path, noise(16000), 16000)
    with pytest.raises(UnusableAudio, match="does not lie in") as caught:
        read_audio(path, sample_rate_hz=16000, start_seconds=start, end_seconds=end)
    assert caught.value.reason == "bad_segment"


@pytest.mark.parametrize("name", ["absent.wav", "nul\0.wav", "\ud800.wav"])
def test_a_missing_file_is_refused(tmp_path, name):
    with pytest.raises(UnusableAudio, match="no such file") as caught:
        read_audio(tmp_path / name, sample_rate_hz=16000)
    assert caught.value.reason == "missing_file"


def test_a_folder_is_no_recording_and_names_what_to_give(tmp_path):
    (tmp_path / "clips").mkdir()
    message = r"clips: is a folder, not a recording \(name .* for example .*clips/\*\.wav\)$"
    with pytest.raises(UnusableAudio, match=message) as caught:
        read_audio(tmp_path / "clips", sample_rate_hz=16000)
    assert caught.value.reason == "missing_file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnusableAudio, match="no such file"):
        read_audio(tmp_path / "pipe.wav", sample_rate_hz=16000)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "clip.wav"
    path.write_bytes(b"RIFF")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UnusableAudio, match="clip.wav: cannot read: Permission denied") as caught:
        read_audio(path, sample_rate_hz=16000)
    assert caught.value.reason == "unreadable_file"


def test_a_headerless_file_is_refused(tmp_path):
    path = tmp_path / "clip.raw"
    path.write_bytes(b"\1\2" * 100)
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(path, sample_rate_hz=16000)


# --- resampling

RATE_PAIRS = [
    (8000, 16000),
    (44100, 16000),
    (48000, 16000),
    (16000, 8000),
    (22050, 16000),
    (11025, 16000),
    (16000, 44100),
    (16001, 16000),
]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATE_PAIRS)
def test_a_sine_stays_the_same_sine(from_hz, to_hz):
    for hz in (50.0, 440.0, 0.45 * min(from_hz, to_hz)):
        resampled = resample(np.sin(2 * np.pi * hz * np.arange(from_hz) / from_hz), from_hz, to_hz)
        expected = np.sin(2 * np.pi * hz * np.arange(to_hz) / to_hz)
        assert frequency_hz(resampled, to_hz) == pytest.approx(hz, abs=1)
        np.testing.assert_allclose(resampled[400:-400], expected[400:-400], atol=1e-4)


@pytest.mark.parametrize(("from_hz", "to_hz"), [p for p in RATE_PAIRS if p[0] > 1.3 * p[1]])
def test_what_would_alias_is_suppressed(from_hz, to_hz):
    for hz in np.linspace(0.5 * to_hz, 0.499 * from_hz, 9):
        sine = np.sin(2 * np.pi * hz * np.arange(from_hz) / from_hz + 0.3)
        residue = np.abs(resample(sine, from_hz, to_hz)[400:-400]).max()
        assert 20 * np.log10(residue) < -80, hz


def test_images_above_the_old_band_are_suppressed():
    resampled = resample(np.sin(2 * np.pi * 3000 * np.arange(8000) / 8000), 8000, 16000)
    spectrum = np.abs(np.fft.rfft(resampled[1000:-1000] * np.blackman(14000)))
    above = spectrum[spectrum.size // 2 + 100 :].max()
    assert 20 * np.log10(above / spectrum.max()) < -80


@pytest.mark.parametrize(("from_hz", "to_hz"), RATE_PAIRS)
def test_the_length_is_rounded(from_hz, to_hz):
    for num_samples in (0, 1, 2, 3, 100, 441, 999, 4001):
        resampled = resample(np.ones(num_samples), from_hz, to_hz)
        assert resampled.dtype == np.float32
        assert resampled.size == round(num_samples * to_hz / from_hz)


def test_a_constant_stays_constant():
    np.testing.assert_allclose(resample(np.ones(4000), 44100, 16000)[200:-200], 1.0, atol=1e-6)


def test_long_input_is_worked_through_in_chunks(monkeypatch):
    samples = noise(100_000)
    whole = resample(samples, 48000, 16000)
    monkeypatch.setattr(resampling, "_CHUNK_ROWS", 7)
    np.testing.assert_allclose(resample(samples, 48000, 16000), whole, atol=1e-6)


def test_the_same_rate_changes_nothing():
    samples = noise(100).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, 16000, 16000), samples)


@pytest.mark.parametrize(
    ("shape", "from_hz", "to_hz"), [((4, 2), 8000, 16000), ((4,), 0, 16000), ((4,), 8000, -1)]
)
def test_misuse_of_the_resampler_is_an_error(shape, from_hz, to_hz):
    with pytest.raises(ValueError, match="cannot resample"):
        resample(np.zeros(shape), from_hz, to_hz)


def test_overshoot_stays_in_full_scale(tmp_path):
    square = np.sign(tone(44100, hz=2000.0)) * 0.99999
    assert np.abs(resample(square, 44100, 16000)).max() > 1
    path = tmp_path / "clip.wav"
    soundfile.write(path, square, 44100)
    assert np.abs(read_audio(path, sample_rate_hz=16000)).max() <= 1


# --- FLAC


def test_flac_keeps_16_bit_samples_exactly():
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000) / 32768
    waveform, rate_hz = decode_audio(encode_flac(samples, 16000), name="clip")
    assert rate_hz == 16000
    np.testing.assert_array_equal(waveform, samples.astype(np.float32))


def test_flac_rounds_and_clips():
    samples = np.array([-2.0, 2.0, 0.6 / 32768, -0.6 / 32768, 0.4 / 32768])
    waveform, _ = decode_audio(encode_flac(samples, 16000), name="clip")
    np.testing.assert_array_equal(waveform * 32768, [-32768, 32767, 1, -1, 0])


def test_flac_bytes_are_the_same_in_another_process():
    code = (
        "import hashlib, numpy; from tfkd.audio.flac import encode_flac;"
        "x = numpy.random.default_rng(3).uniform(-1, 1, 20000).astype('float32');"
        "print(hashlib.sha256(encode_flac(x, 16000)).hexdigest())"
    )
    root = Path(__file__).parents[2]
    other = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    samples = np.random.default_rng(3).uniform(-1, 1, 20000).astype(np.float32)
    own = hashlib.sha256(encode_flac(samples, 16000)).hexdigest()
    assert other.stdout.decode().strip() == own


def test_flac_of_nothing_or_of_two_channels_is_refused():
    with pytest.raises(AudioError, match="no samples"):
        encode_flac(np.zeros(0), 16000)
    with pytest.raises(AudioError, match="NaN"):
        encode_flac(np.array([0.0, np.nan]), 16000)
    with pytest.raises(ValueError, match="cannot encode"):
        encode_flac(np.zeros((10, 2)), 16000)


# --- checks


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.array([0.1, np.nan] * 8000), "not_finite"),
        (np.array([0.1, np.inf] * 8000), "not_finite"),
        (np.zeros(16000), "silent"),
        (np.zeros(0), "too_short"),
        (tone(16000, 0.01), "too_short"),
        (tone(16000, 2.1), "too_long"),
    ],
)
def test_unusable_waveforms_are_refused(waveform, reason):
    with pytest.raises(UnusableAudio) as caught:
        check_waveform(waveform, 16000, min_seconds=0.1, max_seconds=2.0)
    assert caught.value.reason == reason


def test_lengths_at_the_limits_are_usable():
    check_waveform(tone(16000, 0.1), 16000, min_seconds=0.1, max_seconds=2.0)
    check_waveform(tone(16000, 2.0), 16000, min_seconds=0.1, max_seconds=2.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_float_wav_with_nan_is_found(tmp_path, bad, rate_hz):
    samples = tone(rate_hz)
    samples[1000] = bad
    path = tmp_path / "nan.wav"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    waveform = read_audio(path, sample_rate_hz=16000)
    with pytest.raises(UnusableAudio, match="NaN or infinite") as caught:
        check_waveform(waveform, 16000, min_seconds=0.1, max_seconds=2.0)
    assert caught.value.reason == "not_finite"


def test_a_missing_file_may_have_a_name_that_no_file_can_have(tmp_path):
    with pytest.raises(UnusableAudio) as raised:
        read_audio(tmp_path / ("x" * 300), sample_rate_hz=16000)
    assert raised.value.reason == "missing_file"
