"""Files of other encoders: the samples that went in or, of lossy ones, those that ffmpeg reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import noise

from tfkd.audio.reading import decode_recording

RATE_HZ = 16000
# What each program is asked for; {} is a WAV of noise. "-" pipes what it writes.
ENCODERS = {
    "ffmpeg wav": "ffmpeg -v error -i {} -f wav -",
    "ffmpeg rf64": "ffmpeg -v error -i {} -rf64 always -f wav -",
    "ffmpeg w64": "ffmpeg -v error -i {} -f w64 -",
    "ffmpeg au": "ffmpeg -v error -i {} -f au -",
    "ffmpeg caf": "ffmpeg -v error -i {} -f caf -",
    "ffmpeg aiff": "ffmpeg -v error -i {} -f aiff -",
    "ffmpeg flac": "ffmpeg -v error -i {} -f flac -",
    "ffmpeg flac in ogg": "ffmpeg -v error -i {} -c:a flac -f ogg -",
    "ffmpeg vorbis": "ffmpeg -v error -i {} -c:a libvorbis -f ogg -",
    "ffmpeg opus": "ffmpeg -v error -i {} -c:a libopus -f ogg -",
    "ffmpeg mp3": "ffmpeg -v error -i {} -write_xing 0 -q:a 4 -f mp3 -",
    "sox wav": "sox {} -t wav -",
    "sox u-law": "sox {} -e u-law -t wav -",
    "sox au": "sox {} -t au -",
    "sox aiff": "sox {} -t aiff -",
    "sox sphere": "sox {} -t sph -",
    "flac": "flac -s -c {}",
    "lame": "lame --quiet -t -V 5 {} -",
    "oggenc": "oggenc -Q {} -o -",
    "opusenc": "opusenc --quiet {} -",
}
# By how many samples decoders may differ: ffmpeg keeps the delay of an MP3 decoder, or not.
LOSSY = {"ffmpeg vorbis": 0, "oggenc": 0, "sox u-law": 0, "ffmpeg opus": 1, "opusenc": 1}
LOSSY |= {"ffmpeg mp3": 1105, "lame": 1105}


def decoded_by_ffmpeg(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-ar", str(RATE_HZ), "-f", "f32le", "-"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(output, "<f4")


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize("name", ENCODERS)
def test_what_other_programs_write_into_a_pipe_is_read(tmp_path, name):
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(RATE_HZ), RATE_HZ)
    words = [str(path) if word == "{}" else word for word in ENCODERS[name].split()]
    if not shutil.which(words[0]):
        pytest.skip(f"needs {words[0]}")
    written = subprocess.run(words, capture_output=True, check=True).stdout
    ours = decode_recording(written, name="clip").waveform
    if name not in LOSSY:
        np.testing.assert_array_equal(ours, soundfile.read(path, dtype="float32")[0])
        return
    theirs = decoded_by_ffmpeg(written, tmp_path / "clip")
    slack = LOSSY[name]
    assert abs(len(ours) - len(theirs)) <= slack
    theirs = theirs[max(0, len(theirs) - len(ours)) :]
    shortest = min(len(ours), len(theirs))
    # Opus, at its own 48 kHz, is resampled by each in its own way.
    if "opus" not in name:
        np.testing.assert_allclose(ours[:shortest], theirs[:shortest], atol=1e-3)
