"""Examples depend on seed, epoch and utterance alone, and hold what was planned at its place."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from tfkd.config import (
    AugmentationConfig,
    JoiningConfig,
    NoiseConfig,
    NonSpeechConfig,
    ReverberationConfig,
    SilenceConfig,
)
from tfkd.data.augmentation import Augmenter, Scenes
from tfkd.data.augmentation.draws import Draws, hashes

RATE_HZ = 1000
OFF = AugmentationConfig.off()
NAMES = [f"utterance {number}" for number in range(400)]
LENGTHS = np.random.default_rng(0).integers(500, 3000, len(NAMES))


def with_only(**parts) -> AugmentationConfig:
    return dataclasses.replace(OFF, max_seconds=30.0, **parts)


def plan(config: AugmentationConfig, seed: int = 0, epoch: int = 0) -> Scenes:
    return Augmenter(config, RATE_HZ, NAMES, seed).plan(epoch, LENGTHS)


def utterance(place: int) -> np.ndarray:
    """Constant, and different for each place: so it can be found again."""
    return np.full(LENGTHS[place], 0.1 + place / 1000, np.float32)


def heard(config: AugmentationConfig, number: int, epoch: int = 0, speech=utterance) -> np.ndarray:
    augmenter = Augmenter(config, RATE_HZ, NAMES, seed=0)
    return augmenter.waveform(augmenter.plan(epoch, LENGTHS)[number], speech)


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


# --- draws


def test_draws_are_uniform_and_purposes_are_independent():
    draws = Draws(hashes(f"{n}" for n in range(20_000)), seed=1, epoch=2)
    one, two = draws.uniform("one"), draws.uniform("two")
    for numbers in (one, two):
        assert ((numbers >= 0) & (numbers < 1)).all()
        # Five standard deviations of a fair draw.
        assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 2000).max() < 213
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.036


def test_a_row_depends_on_its_utterance_seed_and_epoch_alone():
    whole = Draws(hashes(NAMES), 3, 5).uniform("x")
    np.testing.assert_array_equal(Draws(hashes(NAMES[::-1]), 3, 5).uniform("x"), whole[::-1])
    np.testing.assert_array_equal(Draws(hashes(NAMES[7:9]), 3, 5).uniform("x"), whole[7:9])
    for seed, epoch in ((4, 5), (3, 6), (5, 3)):
        assert not (Draws(hashes(NAMES), seed, epoch).uniform("x") == whole).any()


def test_draws_are_splitmix64_of_hashes_on_every_machine():
    """By whole numbers of Python: another value would mean that killed epochs cannot go on."""

    def hashed(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")

    def mixed(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    draws = Draws(hashes(NAMES[:50]), seed=7, epoch=11)
    keys = [mixed(hashed(name) ^ hashed("7 11")) for name in NAMES[:50]]
    assert draws.keys.tolist() == keys
    gains = [(mixed(key ^ hashed("gain")) >> 11) / 2**53 for key in keys]
    assert draws.uniform("gain").tolist() == gains


# --- plans


def test_nothing_is_changed_where_everything_is_off():
    scenes = plan(OFF)
    assert len(scenes) == len(NAMES)
    np.testing.assert_array_equal(scenes.num_samples, LENGTHS)
    for number in (0, 17, 399):
        assert (scenes[number].places, scenes[number].starts) == ((number,), (0,))
        np.testing.assert_array_equal(heard(OFF, number), utterance(number))


def test_a_plan_is_the_same_each_time_and_differs_between_epochs_and_seeds():
    config = AugmentationConfig()
    first = plan(config, 1, 2)
    for name, values in vars(plan(config, 1, 2)).items():
        np.testing.assert_array_equal(values, getattr(first, name))
    for seed, epoch in ((1, 3), (2, 2)):
        other = plan(config, seed, epoch)
        assert len(other) == len(first)
        assert (other.num_samples != first.num_samples).mean() > 0.3


def test_speech_is_left_unchanged_in_the_clean_epochs_alone():
    config = AugmentationConfig(clean_epochs=2)
    augmenter = Augmenter(config, RATE_HZ, NAMES, seed=0)
    for epoch in range(4):
        of_epoch = augmenter.of_epoch(epoch)
        scenes = of_epoch.plan(epoch, LENGTHS)
        assert len(scenes) == 560
        unchanged = [
            np.array_equal(of_epoch.waveform(scenes[number], utterance), utterance(number))
            for number in range(50)
        ]
        assert all(unchanged) if epoch < 2 else not any(unchanged)


def test_silence_lies_before_and_after_in_its_share_of_the_examples():
    config = with_only(silence=SilenceConfig(share=0.5, max_seconds=4.0))
    scenes = plan(config)
    lead = scenes.starts[:, 0]
    trail = scenes.num_samples - lead - LENGTHS
    for side in (lead, trail):
        assert 0.4 < (side > 0).mean() < 0.6
        assert 3000 < side.max() <= 4000
        # A cube: half of them are below an eighth of the longest.
        assert 300 < np.median(side[side > 0]) < 800
    assert abs(np.corrcoef(lead > 0, trail > 0)[0, 1]) < 0.2


def test_joined_utterances_stand_one_after_the_other_with_pauses():
    joining = JoiningConfig(share=0.5, pause_seconds=(0.2, 0.5))
    scenes = plan(with_only(joining=joining))
    counts = np.count_nonzero(scenes.places >= 0, axis=1)
    assert 0.4 < (counts > 1).mean() < 0.6
    assert {1, 2, 3, 4, 8} <= {*counts}
    # A square: a quarter of them is wanted longer than 9/16 of the longest, and goes on until then.
    seconds = scenes.num_samples[counts > 1] / RATE_HZ
    assert 0.15 < (seconds > 30 * 9 / 16).mean() < 0.4
    assert 24 < seconds.max() <= 30
    for number, count in enumerate(counts):
        scene = scenes[number]
        assert scene.places[0] == number
        ends = np.array(scene.starts) + LENGTHS[list(scene.places)]
        pauses = np.array(scene.starts[1:]) - ends[:-1]
        assert len(scene.places) == len(scene.starts) == count
        assert ((pauses >= 200) & (pauses <= 500)).all()
        assert scene.num_samples == ends[-1]
    # Everybody may follow, each about as often.
    followers = scenes.places[:, 1:][scenes.places[:, 1:] >= 0]
    assert len({*followers.tolist()}) > 200


def test_no_example_is_made_longer_than_the_limit():
    config = dataclasses.replace(
        with_only(
            silence=SilenceConfig(share=1.0, max_seconds=10.0),
            joining=JoiningConfig(share=1.0),
        ),
        max_seconds=2.5,
    )
    scenes = plan(config)
    assert (scenes.num_samples <= np.maximum(2500, LENGTHS)).all()
    is_long = LENGTHS > 2500
    assert is_long.any()
    np.testing.assert_array_equal(scenes.num_samples[is_long], LENGTHS[is_long])
    assert (np.count_nonzero(scenes.places >= 0, axis=1) > 1).any()


def test_examples_without_speech_come_on_top():
    non_speech = NonSpeechConfig(share=0.1, seconds=(0.5, 2.0))
    config = with_only(non_speech=non_speech, silence=SilenceConfig(share=0.0))
    scenes = plan(config)
    assert len(scenes) == 440
    np.testing.assert_array_equal(scenes.num_samples[:400], LENGTHS)
    silent = [scenes[number] for number in range(400, 440)]
    assert {scene.places for scene in silent} == {()}
    seconds = np.array([scene.num_samples for scene in silent]) / RATE_HZ
    assert 0.5 <= seconds.min() < 0.8
    assert 1.7 < seconds.max() <= 2


# --- waveforms


def test_utterances_are_heard_where_they_were_planned():
    config = with_only(
        silence=SilenceConfig(share=0.7, max_seconds=3.0, level_dbfs=(-80.0, -40.0)),
        joining=JoiningConfig(share=0.7),
    )
    scenes = plan(config)
    fillings = set()
    for number in range(60):
        scene, waveform = scenes[number], heard(config, number)
        assert waveform.shape == (scene.num_samples,)
        assert waveform.dtype == np.float32
        is_pause = np.ones(waveform.size, bool)
        for place, start in zip(scene.places, scene.starts, strict=True):
            span = slice(start, start + LENGTHS[place])
            np.testing.assert_array_equal(waveform[span], utterance(place))
            is_pause[span] = False
        if is_pause.sum() > 500:
            level = rms(waveform[is_pause])
            assert level == 0 or 0.8e-4 < level < 1.2e-2
            fillings.add(level == 0)
    assert fillings == {True, False}


def test_gain_is_what_was_drawn_and_clips_at_full_scale():
    config = with_only()
    config = dataclasses.replace(config, gain_db=(-12.0, 6.0))
    gains = [float(heard(config, 100)[0] / utterance(100)[0])]
    gains += [float(heard(config, 100, epoch)[0] / utterance(100)[0]) for epoch in range(1, 40)]
    decibels = 20 * np.log10(gains)
    assert -12 <= decibels.min() < -8
    assert 3 < decibels.max() <= 6
    loud = dataclasses.replace(config, gain_db=(40.0, 40.0))
    assert heard(loud, 0).max() == 1.0


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "hum", "music", "babble"])
def test_noise_keeps_its_distance_to_the_speech_at_every_gain(kind):
    noise = NoiseConfig(share=1.0, kinds=(kind,), snr_db=(20.0, 20.0))
    config = dataclasses.replace(
        with_only(noise=noise, silence=SilenceConfig(share=0.0)), gain_db=(-10.0, -10.0)
    )
    speech = np.float32(10 ** (-10 / 20)) * utterance(3)
    ratio_db = 20 * np.log10(rms(speech) / rms(heard(config, 3) - speech))
    assert ratio_db == pytest.approx(20, abs=0.1)


def test_reverberation_comes_in_its_share_and_keeps_the_length():
    config = with_only(reverberation=ReverberationConfig(share=0.5))
    changed = [not np.array_equal(heard(config, n), utterance(n)) for n in range(100)]
    assert 30 < sum(changed) < 70
    assert heard(config, changed.index(True)).size == LENGTHS[changed.index(True)]


@pytest.mark.parametrize("kind", ["silence", "white", "pink", "brown", "hum", "music", "babble"])
def test_what_is_no_speech_is_heard_at_a_level(kind):
    non_speech = NonSpeechConfig(share=0.1, kinds=(kind,), seconds=(1.0, 1.0))
    config = with_only(non_speech=non_speech, silence=SilenceConfig(level_dbfs=(-60.0, -60.0)))
    config = dataclasses.replace(config, silence=dataclasses.replace(config.silence, share=0.0))
    levels = {round(rms(heard(config, number)), 6) for number in range(400, 430)}
    if kind == "silence":
        assert levels == {0.0, 0.001}
    else:
        assert len(levels) > 20
        assert min(levels) >= 10 ** (-70 / 20) * 0.9
        assert max(levels) <= 10 ** (-12 / 20) * 1.1


def test_what_is_heard_is_the_same_each_time():
    config = dataclasses.replace(AugmentationConfig(), max_seconds=10.0)
    for number in (0, 5, 250, 410):
        np.testing.assert_array_equal(heard(config, number, 2), heard(config, number, 2))
        assert np.abs(heard(config, number, 2)).max() <= 1


def test_silent_and_empty_utterances_survive_every_change():
    config = dataclasses.replace(
        AugmentationConfig(),
        noise=NoiseConfig(share=1.0),
        reverberation=ReverberationConfig(share=1.0),
        non_speech=NonSpeechConfig(kinds=("babble",), share=1.0),
    )

    def nothing(place: int) -> np.ndarray:
        return np.zeros(LENGTHS[place], np.float32)

    for number in (0, 1, 2, 3, 401, 402):
        waveform = heard(config, number, speech=nothing)
        assert np.isfinite(waveform).all()
        assert rms(waveform) <= 0.012
