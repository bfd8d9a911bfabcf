"""Filters, by hand, at their limits, and as a whole."""

from __future__ import annotations

import dataclasses
import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfkd.config import FilterConfig
from tfkd.distillation.filters import (
    FILTERS,
    Fault,
    backward_share,
    compression_ratio,
    disagreement,
    judge,
    merge_duplicates,
    successive_repeats,
)
from tfkd.records import Hypothesis, PseudoLabelRecord, UtteranceRecord

OFF = FilterConfig(drop_unfinished=False)
HUMMED = "hum " * 20
HUMMED_RATIO = 80 / len(zlib.compress(HUMMED.encode()))
PLAIN = Hypothesis("one two", (4, 5, 3), -1.5, -1.5, (-0.5,) * 3, (0.1, 0.6, 0.9), "eos", 0.8)


def record(*hypotheses: Hypothesis, text: str | None = "one two") -> PseudoLabelRecord:
    """Two seconds of audio with these hypotheses."""
    return PseudoLabelRecord(UtteranceRecord("u", b"not read", 16000, 8000, text), hypotheses)


def saying(text: str, log_prob: float = -1.5, **changes) -> Hypothesis:
    return dataclasses.replace(PLAIN, text=text, log_prob=log_prob, **changes)


def faults_of(labels: PseudoLabelRecord, **limits) -> list[tuple[Fault, ...]]:
    filters = dataclasses.replace(OFF, **limits)
    return [faults for _, faults in judge(labels, filters)]


# --- each filter, below, at and beyond its limit


@pytest.mark.parametrize(
    ("setting", "reason", "hypothesis", "value", "kept_at", "refused_at"),
    [
        ("max_repeats", "loop", saying("go to a to a to a"), 3, 3, 2),
        # As in word errors, each letter of a script without spaces is a word.
        ("max_repeats", "loop", saying("我要你要你要你"), 3, 3, 2),
        ("max_compression_ratio", "compressible", saying(HUMMED), *(HUMMED_RATIO,) * 2, 3.0),
        # Six letters in two seconds.
        ("min_characters_per_second", "too_slow", PLAIN, 3.0, 3.0, 3.01),
        ("max_characters_per_second", "too_fast", PLAIN, 3.0, 3.0, 2.99),
        # -1.5 over three tokens, EOS included.
        ("min_mean_log_prob", "low_log_prob", PLAIN, -0.5, -0.5, -0.49),
        ("min_coverage", "low_coverage", PLAIN, 0.8, 0.8, 0.81),
        (
            "max_backward_share",
            "backward_jumps",
            saying("a b c d", token_ids=(4, 5, 6, 7, 3), token_seconds=(0.1, 0.9, 0.3, 1.2, 0.0)),
            *(1 / 3, 1 / 3, 0.33),
        ),
        # One of two words is wrong.
        ("max_wer", "high_wer", saying("one too"), 0.5, 0.5, 0.49),
    ],
)
def test_a_limit_keeps_what_is_at_it(setting, reason, hypothesis, value, kept_at, refused_at):
    labels = record(hypothesis)
    assert faults_of(labels, **{setting: kept_at}) == [()]
    ((fault,),) = faults_of(labels, **{setting: refused_at})
    assert fault == Fault(reason, pytest.approx(value), refused_at)


def test_what_did_not_finish_is_refused_by_default():
    labels = record(PLAIN, saying("on", finish_reason="max_steps"))
    assert [faults for _, faults in judge(labels, FilterConfig())] == [
        (),
        (Fault("max_steps", 1.0, 0.0),),
    ]
    assert faults_of(labels) == [(), ()]


def test_disagreement_removes_every_hypothesis_of_the_utterance():
    # Shares 3/4 and 1/4; one of four characters differs: 2 * 3/16 * 1/4.
    labels = record(saying("abcd", math.log(0.6)), saying("abce", math.log(0.2)))
    expected = Fault("disagreement", pytest.approx(3 / 32), 0.09)
    assert faults_of(labels, max_disagreement=0.09) == [(expected,), (expected,)]
    assert faults_of(labels, max_disagreement=0.094) == [(), ()]


def test_every_reason_is_named():
    (faults,) = faults_of(record(PLAIN), min_coverage=0.9, max_characters_per_second=1.0)
    assert [fault.reason for fault in faults] == ["too_fast", "low_coverage"]


@pytest.mark.parametrize(
    ("labels", "limits"),
    [
        (record(PLAIN, text=None), {"max_wer": 0.0}),
        (record(saying("a", finish_reason=None)), {"drop_unfinished": True}),
        (record(saying("a", coverage=None)), {"min_coverage": 1.0}),
        (record(saying("a", log_prob=None)), {"min_mean_log_prob": 0.0}),
        (record(saying("a", token_ids=())), {"min_mean_log_prob": 0.0}),
        (record(saying("a", token_seconds=())), {"max_backward_share": 0.0}),
        (record(saying("a"), saying("b", log_prob=None)), {"max_disagreement": 0.0}),
    ],
)
def test_what_is_unknown_is_kept(labels, limits):
    assert not any(faults_of(labels, **limits))


# --- the measures


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("one two three", 1),
        ("one one two", 2),
        ("no no no no", 4),
        ("a b a b a", 2),
        ("say a b c a b c a b c now", 3),
        ("a b b a b b", 2),
        ("one two one", 1),
    ],
)
def test_successive_repeats(text, expected):
    assert successive_repeats(text.split()) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_successive_repeats_agree_with_trying_everything(words):
    found = [
        times
        for start in range(len(words))
        for size in range(1, len(words) + 1)
        for times in range(1, len(words) + 1)
        if words[start : start + size * times] == words[start : start + size] * times
        and start + size * times <= len(words)
    ]
    assert successive_repeats(words) == max(found, default=0)


def test_compression_ratio_counts_bytes():
    assert compression_ratio("") == 0
    text = "é" * 50
    assert compression_ratio(text) == 100 / len(zlib.compress(text.encode()))
    assert compression_ratio("seven four two") < 1 < compression_ratio("seven " * 10)


@pytest.mark.parametrize(
    ("seconds", "tolerance", "expected"),
    [
        ((), 0.2, 0.0),
        ((1.0,), 0.2, 0.0),
        ((0.0, 0.5, 0.5, 0.9), 0.2, 0.0),
        ((0.5, 0.25, 0.75), 0.25, 0.0),
        ((0.5, 0.25, 0.75), 0.24, 0.5),
        ((3.0, 2.0, 1.0), 0.2, 1.0),
    ],
)
def test_backward_share(seconds, tolerance, expected):
    assert backward_share(seconds, tolerance) == expected


def test_where_attention_is_for_eos_does_not_matter():
    ended = saying("a b", token_seconds=(0.1, 0.9, 0.0))
    cut = dataclasses.replace(ended, finish_reason="max_steps")
    limits = {"max_backward_share": 0.0}
    assert faults_of(record(ended), **limits) == [()]
    assert faults_of(record(cut), **limits) == [(Fault("backward_jumps", 0.5, 0.0),)]


def test_disagreement_of_equally_likely_strangers_grows_with_their_number():
    assert disagreement(["ab"], [-3.0]) == 0.0
    assert disagreement(["ab", "cd"], [-3.0, -3.0]) == pytest.approx(0.5)
    assert disagreement(["ab", "cd", "ef"], [-3.0] * 3) == pytest.approx(2 / 3)


# --- duplicates


def test_duplicates_sum_their_probabilities_at_the_place_of_the_best():
    labels = record(
        saying("one two", math.log(0.2), score=-1.0, coverage=0.1),
        saying("too", math.log(0.25)),
        saying("one  two", math.log(0.3), coverage=0.2),
    )
    merged, other = merge_duplicates(labels).hypotheses
    assert (merged.text, merged.coverage) == ("one  two", 0.2)
    assert merged.log_prob == pytest.approx(math.log(0.5))
    assert other == labels.hypotheses[1]


def test_duplicates_sum_their_totals_too_and_the_likeliest_by_total_is_kept():
    merged, _ = merge_duplicates(
        record(
            saying("one two", math.log(0.2), total=math.log(0.3), coverage=0.1),
            saying("one  two", math.log(0.3), total=math.log(0.1), coverage=0.2),
            saying("too", math.log(0.25), total=math.log(0.1)),
        )
    ).hypotheses
    assert (merged.text, merged.coverage) == ("one two", 0.1)
    assert math.exp(merged.log_prob) == pytest.approx(0.5)
    assert math.exp(merged.total) == pytest.approx(0.4)


def test_disagreement_is_that_of_the_totals():
    sure = record(saying("a", -1.0, total=-1.0), saying("b", -1.0, total=-60.0))
    unsure = record(saying("a", -1.0, total=-9.0), saying("b", -60.0, total=-9.0))
    assert faults_of(sure, max_disagreement=0.1) == [(), ()]
    found = faults_of(unsure, max_disagreement=0.1)
    assert found == [(Fault("disagreement", pytest.approx(0.5), 0.1),)] * 2


def test_texts_are_compared_as_they_are_stored():
    """What normalisation would remove may be a letter of this corpus (`extra_characters`)."""
    labels = record(saying("c3po", -1.0), saying("cpo", -1.5), text="c3po")
    assert merge_duplicates(labels) == labels
    assert faults_of(labels, max_wer=0.0) == [(), (Fault("high_wer", 1.0, 0.0),)]


def test_what_was_cut_short_is_no_duplicate():
    labels = record(saying("a"), saying("a", finish_reason="max_steps"))
    assert merge_duplicates(labels) == labels


def test_duplicates_of_unknown_probability_leave_the_best_ranked():
    labels = record(saying("a", None, coverage=0.1), saying(" a", -1.0, coverage=0.2))
    assert merge_duplicates(labels).hypotheses == labels.hypotheses[:1]


def test_the_probability_of_a_text_decides_not_that_of_one_spelling():
    twice = record(saying("a", -2.0), saying("a ", -2.0))
    assert faults_of(twice, min_mean_log_prob=-0.5) == [()]
    assert faults_of(record(saying("a", -2.0)), min_mean_log_prob=-0.5) != [()]


# --- filters together

HYPOTHESES = st.builds(
    lambda words, log_prob, seconds, reason, coverage: Hypothesis(
        " ".join(words), (4,) * len(seconds), log_prob, log_prob, (-1.0,) * len(seconds),
        tuple(seconds), reason, coverage,
    ),
    st.lists(st.sampled_from(["one", "two", "three"]), max_size=6),
    st.floats(-20, 0),
    st.lists(st.floats(0, 2), min_size=1, max_size=6),
    st.sampled_from(["eos", "max_steps"]),
    st.floats(0, 1),
)  # fmt: skip
RECORDS = st.builds(
    lambda hypotheses, text: record(*hypotheses, text=text),
    st.lists(HYPOTHESES, min_size=1, max_size=5),
    st.sampled_from([None, "one two", "three"]),
)
LIMITED = [each for each in FILTERS if each.setting != "drop_unfinished"]


def kept(labels: PseudoLabelRecord, filters: FilterConfig) -> set[Hypothesis]:
    return {hypothesis for hypothesis, faults in judge(labels, filters) if not faults}


@pytest.mark.parametrize("each", LIMITED, ids=lambda each: each.setting)
@settings(deadline=None)
@given(labels=RECORDS, limits=st.tuples(st.floats(-5, 20), st.floats(-5, 20)))
def test_a_stricter_limit_never_keeps_more(each, labels, limits):
    low, high = (dataclasses.replace(OFF, **{each.setting: limit}) for limit in sorted(limits))
    strict, loose = (high, low) if each.is_minimum else (low, high)
    assert kept(labels, strict) <= kept(labels, loose) <= kept(labels, OFF)


@settings(deadline=None)
@given(labels=RECORDS, limit=st.floats(0, 1))
def test_filters_together_keep_what_each_keeps(labels, limit):
    limits = {"drop_unfinished": True} | {
        each.setting: -3.0 if each.setting == "min_mean_log_prob" else limit for each in LIMITED
    }
    alone = [kept(labels, dataclasses.replace(OFF, **{k: v})) for k, v in limits.items()]
    assert kept(labels, dataclasses.replace(OFF, **limits)) == set.intersection(*alone)


def test_every_limit_of_the_config_has_its_filter():
    limits = {f.name for f in dataclasses.fields(FilterConfig)} - {"backward_tolerance_seconds"}
    assert [each.setting for each in FILTERS] == [
        f.name for f in dataclasses.fields(FilterConfig) if f.name in limits
    ]
    assert len({each.reason for each in FILTERS}) == len(FILTERS)
