"""Error rates against hand-computed values, and the behaviour of the intervals."""

from __future__ import annotations

import dataclasses
import itertools
import json

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfkd import metrics
from tfkd.metrics import (
    Difference,
    corrected_for_many,
    count_word_errors,
    difference_of_counts,
    rate_with_interval,
    score,
    word_error_rate,
)

SENTENCES = st.lists(st.sampled_from("abcd"), max_size=5).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=8)


def test_counts_and_rates_by_hand():
    # 1: one substitution (off -> on) in 5 words; 2: one deletion in 3; 3: one insertion on 2.
    result = score(
        ["turn the kitchen lights off", "set a timer", "volume up"],
        ["turn the kitchen lights on", "set timer", "volume way up"],
    )
    assert (result.substitutions, result.deletions, result.insertions) == (1, 1, 1)
    assert (result.words, result.utterances) == (10, 3)
    assert result.wer == pytest.approx(3 / 10)
    # Characters: "off" -> "on" is 1 substitution and 1 deletion; "a " is 2 deletions; "way " is 4
    # insertions; the references hold 27 + 11 + 9 characters.
    assert result.cer == pytest.approx(8 / 47)


def test_scripts_without_spaces_are_counted_by_letters():
    """One substitution (晴 -> 雨) and one deletion (れ) of 5; "open" is one word."""
    result = score(["今日は晴れ", "open 窓"], ["今日は雨", "open 門"])
    assert (result.words, result.substitutions, result.deletions) == (7, 2, 1)
    assert word_error_rate("今日は晴れ", "今日は雨") == pytest.approx(2 / 5)
    assert metrics.words_of("สวัสดี 한국어 말") == [*"สวัสดี", "한국어", "말"]
    # Characters are those of the text: "open 窓" has 6 with its space.
    assert result.cer == pytest.approx(3 / 11)


@given(PAIRS)
def test_the_rate_of_one_pair_is_that_of_a_corpus_of_one(pairs):
    for reference, hypothesis in pairs:
        assert word_error_rate(reference, hypothesis) == score([reference], [hypothesis]).wer


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("one two", "one  two ", 0.0),
        ("one two", "One two", 0.5),
        ("one two", "", 1.0),
        ("one", "one two three", 2.0),
        ("a b c d", "a x c", 0.5),
        ("", "one two", 2.0),
        ("", "", 0.0),
        ("a\tb", "a\u00a0b", 0.0),
    ],
)
def test_word_error_rate(reference, text, expected):
    assert word_error_rate(reference, text) == expected
    assert rate_with_interval(count_word_errors([reference], [text]))[0] == expected


def test_perfect_hypotheses_have_no_error_and_no_width():
    result = score(["a b", "c"], ["a b", "c"])
    assert (result.wer, result.wer_low, result.wer_high, result.cer) == (0.0, 0.0, 0.0, 0.0)


def test_empty_reference_counts_insertions():
    result = score(["", "a b"], ["x", "a b"])
    assert (result.insertions, result.words, result.wer) == (1, 2, 0.5)


def test_empty_hypothesis_counts_deletions():
    result = score(["a b", "c d"], ["", "c d"])
    assert (result.deletions, result.wer, result.cer) == (2, 0.5, 0.5)


def test_only_empty_references():
    assert score([""], [""]).wer == 0.0
    assert score(["", ""], ["x y", "z"]).wer == 3.0  # a count, as in jiwer


def test_errors_may_exceed_the_reference():
    assert score(["a"], ["b c d"]).wer == 3.0


def test_white_space_is_folded():
    assert score([" a\tb \n"], ["a  b"]).wer == 0.0


def test_the_same_seed_gives_the_same_interval():
    references, hypotheses = ["a b c"] * 20, ["a b c", "a x c"] * 10
    first = score(references, hypotheses, seed=7)
    assert first == score(references, hypotheses, seed=7)
    assert first != score(references, hypotheses, seed=8, samples=999)
    assert first.wer_low < first.wer < first.wer_high


def test_a_single_utterance_has_an_interval_without_width():
    result = score(["a b"], ["a c"])
    assert (result.wer_low, result.wer, result.wer_high) == (0.5, 0.5, 0.5)


def test_interval_matches_the_binomial_that_it_resamples():
    # One-word utterances: the WER of a resample is Binomial(400, 0.25) / 400, sd 0.02165.
    result = score(["a"] * 400, ["b"] * 100 + ["a"] * 300, samples=4000)
    half_width = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert result.wer_low == pytest.approx(0.25 - half_width, abs=0.004)
    assert result.wer_high == pytest.approx(0.25 + half_width, abs=0.004)


def test_blocks_do_not_change_the_result(monkeypatch):
    references, hypotheses = ["a b c", "d", "e f"], ["a c", "x", "e f g"]
    whole = score(references, hypotheses, samples=50)
    monkeypatch.setattr(metrics, "MAX_DRAWN_INDICES", 7)
    assert score(references, hypotheses, samples=50) == whole


def test_rates_are_json_fractions():
    fields = dataclasses.asdict(score(["a b", "c"], ["a x", "c"]))
    assert json.loads(json.dumps(fields)) == fields
    assert fields["wer"] == pytest.approx(1 / 3)


def paired_difference(references, one, other, **settings) -> Difference:
    """Compares what two systems recognised."""
    counts = (count_word_errors(references, each) for each in (one, other))
    return difference_of_counts(*counts, **settings)


def test_paired_difference_by_hand():
    references = ["a b", "c d"] * 10
    difference, low, high, p_value = paired_difference(
        references, ["a x", "c d"] * 10, ["x y", "c y"] * 10
    )
    assert p_value == pytest.approx(2 / 10_001)  # None of 10,000 samples is zero or above.
    assert difference == pytest.approx(1 / 4 - 3 / 4)
    # Each utterance has one error more in B: every resample differs by exactly 2 / 4.
    assert (low, high) == pytest.approx((-0.5, -0.5))


def test_paired_difference_of_a_system_with_itself_is_zero():
    hypotheses = ["a x", "c", ""]
    assert paired_difference(["a b", "c d", "e"], hypotheses, hypotheses) == (0, 0, 0, 1)


def test_the_p_value_is_that_of_the_samples_in_which_the_worse_system_wins():
    """A is better on two utterances of three: it loses the samples with two of the third or more.

    These have the probability 3 (1/3)^2 (2/3) + (1/3)^3 = 7/27.
    """
    systems = ["a", "b", "x"], ["x", "x", "c"]
    difference = paired_difference(["a", "b", "c"], *systems, samples=20_000)
    assert difference.p_value == pytest.approx(2 * 7 / 27, abs=0.02)


@pytest.mark.parametrize("count", range(1, 8))
def test_no_p_value_is_below_the_least_of_a_test_that_flips_signs(count):
    """Where A has fewer errors in every utterance, only flipping none or all is as extreme."""
    signs = itertools.product((-1, 1), repeat=count)
    least = np.mean([abs(sum(flipped)) >= count for flipped in signs])
    references = ["a"] * count
    assert paired_difference(references, references, ["b"] * count).p_value == least
    # Utterances in which both systems err alike prove nothing.
    more = paired_difference(
        [*references, "a", "a"], [*references, "c", "c"], ["b"] * (count + 2), samples=50
    )
    assert more.p_value >= least


@pytest.mark.parametrize("count", [1, 3, 5])
def test_equal_systems_are_not_told_apart_on_a_handful_of_utterances(count):
    generator = np.random.default_rng(0)
    references = ["a b c"] * count
    for seed in range(50):
        systems = generator.choice(["a b c", "a b x", "a x x", "x x x"], (2, count))
        first, second = systems.tolist()
        assert paired_difference(references, first, second, seed=seed).p_value > 0.05


def counts_of_runs(errors: list[list[int]]) -> np.ndarray:
    """Counts [R, U, 4] of utterances of four words, with these errors [R, U] in each run."""
    substitutions = np.array(errors)
    zeros = np.zeros_like(substitutions)
    return np.stack([zeros, zeros, substitutions, 4 - substitutions], axis=-1)


def test_counts_of_several_runs_give_the_difference_of_their_means():
    several = counts_of_runs([[0, 1, 0], [1, 2, 0]])
    assert difference_of_counts(several, counts_of_runs([[0, 0, 0]] * 2)).wer == 2 / 12
    assert rate_with_interval(several)[0] == 2 / 12


def test_systems_with_other_runs_or_utterances_are_not_compared():
    counts = counts_of_runs([[0, 1, 2], [1, 1, 1]])
    for others in (counts[:1], counts[0], counts[:, :2]):
        with pytest.raises(ValueError, match="of A, but"):
            difference_of_counts(others, counts)


def test_one_run_is_compared_as_by_its_counts():
    one, other = counts_of_runs([[0, 1, 2, 0]]), counts_of_runs([[1, 1, 3, 4]])
    assert difference_of_counts(one, other) == difference_of_counts(one[0], other[0])
    assert rate_with_interval(one) == rate_with_interval(one[0])


def test_a_system_that_ran_twice_does_not_differ_from_itself():
    counts = counts_of_runs([[1, 2, 0], [3, 1, 1]])
    assert difference_of_counts(counts, counts) == (0, 0, 0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_runs_and_utterances_are_drawn_together_for_both_systems(seed):
    """Compares with all draws of three runs and three utterances, which are equally probable."""
    generator = np.random.default_rng(seed)
    errors = generator.integers(0, 5, (2, 3, 3))
    draws = list(itertools.product(range(3), repeat=3))
    differences = [
        (errors[0] - errors[1])[np.ix_(runs, utterances)].sum() / 36
        for runs, utterances in itertools.product(draws, repeat=2)
    ]
    difference = difference_of_counts(*map(counts_of_runs, errors), samples=20_000)
    smaller = min(np.mean(np.less_equal(differences, 0)), np.mean(np.greater_equal(differences, 0)))
    least = 2.0 ** (1 - np.count_nonzero(np.diff(errors.sum(axis=1), axis=0)))
    assert difference.p_value == pytest.approx(min(1, max(2 * smaller, least)), abs=0.02)
    ends = np.percentile(differences, [2.5, 97.5])
    assert [difference.low, difference.high] == pytest.approx(ends, abs=0.03)


def test_a_difference_that_one_seed_in_three_has_is_not_significant():
    """However many utterances agree, two seeds of three show no difference, or the opposite."""
    better, alike, worse = [0] * 100, [1] * 100, [2] * 100
    baseline = counts_of_runs([alike] * 3)
    of_one = difference_of_counts(counts_of_runs([better, alike, alike]), baseline)
    mixed = difference_of_counts(counts_of_runs([better, better, worse]), baseline)
    of_all = difference_of_counts(counts_of_runs([better] * 3), baseline)
    # Of 27 draws of three seeds, 8 have none of the first; 7 have the last one twice or more.
    assert of_one.p_value == pytest.approx(2 * 8 / 27, abs=0.02)
    assert mixed.p_value == pytest.approx(2 * 7 / 27, abs=0.02)
    assert of_all.p_value == pytest.approx(2 / 10_001)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 2 x 0.03 > 1 x 0.04
        ([0.5, 0.4, 0.02], [0.8, 0.8, 0.06]),
        ([0.9, 0.8], [1, 1]),
    ],
)
def test_each_of_many_p_values_is_corrected_for_those_that_are_not_smaller(p_values, corrected):
    assert corrected_for_many(p_values) == pytest.approx(corrected)


def test_of_many_comparisons_without_a_difference_few_sets_have_a_small_p_value():
    generator = np.random.default_rng(0)
    sets = generator.random((2000, 8))
    least = [min(corrected_for_many(p_values)) for p_values in sets.tolist()]
    assert np.mean(np.less(sets.min(axis=1), 0.05)) > 0.3
    assert np.mean(np.less(least, 0.05)) == pytest.approx(0.05, abs=0.02)


def test_equal_systems_whose_seeds_differ_are_seldom_told_apart():
    """Drawing utterances alone, as for one run, calls many trainings of one config different."""
    generator = np.random.default_rng(0)
    called_different = np.zeros(2)
    for _ in range(100):
        # Some utterances are harder for each run, some runs are worse on each utterance.
        hard, of_run = generator.gamma(0.3, 0.06, 300), generator.lognormal(0, 0.4, (2, 3, 1))
        errors = generator.binomial(4, np.minimum(1, hard * of_run))
        both = [counts_of_runs(runs) for runs in errors]
        summed = [counts.sum(axis=0) for counts in both]
        for place, systems in enumerate((both, summed)):
            called_different[place] += difference_of_counts(*systems, samples=500).p_value < 0.05
    assert called_different[0] <= 10
    assert called_different[1] > 20


def test_the_interval_of_a_mean_over_seeds_knows_how_they_differ():
    alike, different = (
        counts_of_runs([[1, 1] * 50] * 3),
        counts_of_runs([[0] * 100, [1] * 100, [2] * 100]),
    )
    assert rate_with_interval(alike) == (0.25, 0.25, 0.25)
    rate, low, high = rate_with_interval(different)
    assert rate == 0.25
    assert (low, high) == pytest.approx((0, 0.5), abs=0.1)


def test_paired_interval_is_narrower_than_two_separate_ones():
    generator = np.random.default_rng(0)
    hard = generator.random(300) < 0.3
    references = ["a b c d"] * 300
    worse = ["x y z w" if each else "a b c x" for each in hard]
    better = ["x y z w" if each else "a b c d" for each in hard]
    difference, low, high, _ = paired_difference(references, worse, better)
    assert low < difference < high
    alone = score(references, better)
    assert high - low < (alone.wer_high - alone.wer_low) / 2


@pytest.mark.parametrize(
    ("references", "hypotheses", "samples", "message"),
    [(["a"], [], 10, "1 references but 0"), ([], [], 10, "no utterance"), (["a"], ["a"], 0, "1")],
)
def test_misuse_is_refused(references, hypotheses, samples, message):
    with pytest.raises(ValueError, match=message):
        score(references, hypotheses, samples=samples)


@given(PAIRS)
def test_totals_agree_with_jiwer(pairs):
    references, hypotheses = map(list, zip(*pairs, strict=True))
    result = score(references, hypotheses, samples=10)
    expected = jiwer.process_words(references, hypotheses)
    assert result.wer == pytest.approx(expected.wer)
    assert result.cer == pytest.approx(jiwer.process_characters(references, hypotheses).cer)
    assert result.words == expected.hits + expected.deletions + expected.substitutions
    assert (result.insertions, result.deletions) == (expected.insertions, expected.deletions)
