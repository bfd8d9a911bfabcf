"""Augmentation is off unless it is named, and named in part it has the defaults for the rest."""

from __future__ import annotations

import pytest

from tfkd.config import (
    AugmentationConfig,
    NoiseConfig,
    TrainingConfig,
    config_digest,
    from_dict,
    with_overrides,
)
from tfkd.errors import ConfigError


def refusal(values: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        from_dict(TrainingConfig, {"augmentation": values}, at="training")
    return str(caught.value)


def test_a_config_that_does_not_name_it_means_what_it_meant():
    assert from_dict(TrainingConfig, {}).augmentation is None
    assert from_dict(TrainingConfig, {"augmentation": None}).augmentation is None


def test_an_empty_section_is_what_is_best_known():
    assert from_dict(TrainingConfig, {"augmentation": {}}).augmentation == AugmentationConfig()


def test_an_override_turns_on_a_section_that_was_null():
    changed = with_overrides(TrainingConfig(), ["augmentation.noise.share=0.25"])
    assert changed.augmentation == AugmentationConfig(noise=NoiseConfig(share=0.25))
    assert with_overrides(changed, ["augmentation=null"]) == TrainingConfig()


def test_it_is_part_of_the_digest_once_it_is_on():
    plain, on = TrainingConfig(), TrainingConfig(augmentation=AugmentationConfig())
    louder = with_overrides(on, ["augmentation.gain_db=[0, 6]"])
    assert len({config_digest(each) for each in (plain, on, louder)}) == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"noise": {"snr_db": [40, 5]}}, "noise.snr_db: needs two numbers, the lower one first"),
        ({"gain_db": [1.0]}, "gain_db: needs two numbers, the lower one first"),
        ({"gain_db": [0, 1, 2]}, "gain_db: needs two numbers, the lower one first"),
        ({"gain_db": [-100, 0]}, "gain_db: -100.0 is below -60"),
        ({"noise": {"kinds": []}}, "noise.kinds: needs at least one kind of sound"),
        ({"noise": {"kinds": ["silence"]}}, "'silence' is none of white"),
        ({"non_speech": {"share": 1.5}}, "non_speech.share: 1.5 is above 1"),
        ({"joining": {"pause_seconds": [-1, 1]}}, "joining.pause_seconds: -1.0 is below 0"),
        ({"silence": {"shares": 0.5}}, "did you mean 'share'"),
    ],
)
def test_what_is_wrong_is_named(values, expected):
    assert expected in refusal(values)
