"""Decoding settings left at their defaults follow from the recogniser; those that are set stay."""

from __future__ import annotations

import dataclasses

import pytest

from tfkd.config import DecodingConfig, FusionConfig, SystemConfig, from_dict, with_overrides
from tfkd.decoding.defaults import CTC_WEIGHT, resolved, resolved_without_ctc

TRAINED = SystemConfig()
UNTRAINED = from_dict(SystemConfig, {"training": {"ctc_weight": 0}})
WITHOUT_HEAD = from_dict(SystemConfig, {"model": {"ctc": False}, "training": {"ctc_weight": 0}})


def decoding(**fusion) -> DecodingConfig:
    return DecodingConfig(fusion=FusionConfig(**fusion))


@pytest.mark.parametrize(
    ("system", "weight"), [(TRAINED, CTC_WEIGHT), (UNTRAINED, 0.0), (WITHOUT_HEAD, 0.0)]
)
def test_ctc_joins_where_its_head_was_trained(system, weight):
    assert weight == 0 or weight > 0.1
    assert resolved(decoding(), system).fusion.ctc_weight == weight
    assert resolved_without_ctc(decoding(), system).fusion.ctc_weight == 0.0


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_a_chosen_weight_stays(weight):
    assert resolved(decoding(ctc_weight=weight), TRAINED).fusion.ctc_weight == weight
    assert resolved_without_ctc(decoding(ctc_weight=weight), TRAINED).fusion.ctc_weight == weight


def test_null_brings_the_default_back_to_a_run_that_says_zero():
    """Runs of earlier versions wrote the zero that they decoded with; it is read as it stands."""
    old = decoding(ctc_weight=0.0)
    assert resolved(old, TRAINED).fusion.ctc_weight == 0.0
    asked = with_overrides(old, ["fusion.ctc_weight=null"])
    assert resolved(asked, TRAINED).fusion.ctc_weight == CTC_WEIGHT


def test_a_language_model_brings_a_reward_for_length():
    joined = decoding(lm="lm", lm_weight=0.3)
    assert resolved(decoding(), TRAINED).normalisation == "gnmt"
    assert resolved(decoding(lm="lm"), TRAINED).normalisation == "gnmt"
    assert resolved(joined, TRAINED).normalisation == "mean"
    assert resolved_without_ctc(joined, TRAINED).normalisation == "mean"
    penalised = dataclasses.replace(joined, length_penalty=0.6)
    assert resolved(penalised, TRAINED).normalisation == "gnmt"
