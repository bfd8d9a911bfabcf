"""Channels that cancel, differ, or are asked for by number."""

from __future__ import annotations

import numpy as np
import pytest
from audio_files import encoded, noise, tone

from tfkd.audio.channels import mean_of_channels
from tfkd.audio.reading import decode_recording
from tfkd.audio.unusable import UnusableAudio

RATE_HZ = 16000


def read(channels: list[np.ndarray], channel: int | None = None):
    data = encoded(np.stack(channels, 1), RATE_HZ, "WAV", "FLOAT")
    return decode_recording(data, name="clip.wav", channel=channel)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.3])
def test_channels_of_opposite_phase_do_not_cancel(share):
    voice = noise(RATE_HZ).astype(np.float32)
    recording = read([voice, np.float32(-share) * voice])
    np.testing.assert_array_equal(recording.waveform, voice)
    assert "cancel each other, and channel 0 alone is read" in recording.remarks[0]


def test_correlations_are_those_of_the_whole_recording():
    first, second = (
        noise(9000) + 0.2,
        0.3 * noise(9000) + np.random.default_rng(1).normal(size=9000),
    )
    frames = np.stack([first, second], 1).astype(np.float32)
    waveform, likeness = mean_of_channels(np.split(frames, [10, 4000]))
    np.testing.assert_array_equal(waveform, frames.mean(axis=1))
    assert likeness.loudest == 1
    assert likeness.correlation == pytest.approx(np.corrcoef(first, second)[0, 1], rel=1e-5)


def test_a_speaker_a_channel_is_named():
    recording = read([tone(RATE_HZ, 1.0, 300), tone(RATE_HZ, 1.0, 900)])
    (remark,) = recording.remarks
    assert "channels differ (correlation 0.00)" in remark
    assert "`channel`" in remark


@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_is_read_alone(channel):
    voices = [tone(RATE_HZ, 1.0, 300).astype(np.float32), noise(RATE_HZ).astype(np.float32)]
    recording = read(voices, channel)
    np.testing.assert_array_equal(recording.waveform, voices[channel])
    assert recording.remarks == ()


@pytest.mark.parametrize("channel", [2, -1])
def test_a_channel_that_is_not_there_is_refused(channel):
    with pytest.raises(UnusableAudio, match=r"channel -?\d is asked for") as caught:
        read([noise(100), noise(100)], channel)
    assert caught.value.reason == "bad_channel"


@pytest.mark.parametrize("share", [1.0, 0.5, 1e-4, 0.0])
def test_channels_that_agree_need_no_remark(share):
    voice = noise(RATE_HZ).astype(np.float32)
    hiss = np.random.default_rng(1).normal(0, 1e-3, RATE_HZ).astype(np.float32)
    recording = read([voice, np.float32(share) * voice + (hiss if share else 0)])
    assert recording.remarks == ()
    assert recording.waveform.std() >= 0.49 * voice.std()


def test_silence_and_nan_are_left_to_the_checks():
    assert not read([np.zeros(100), np.zeros(100)]).waveform.any()
    assert np.isnan(read([np.full(100, np.nan), np.ones(100)]).waveform).all()
