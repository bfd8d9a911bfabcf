"""The k-best is exact: exhaustive search on random small models agrees, ties and all."""

import dataclasses

import brute_force
import numpy as np
import pytest
import tensorflow as tf
from brute_force import (
    EOS,
    PAD,
    SOS,
    Weighted,
    covering_width,
    divisor,
    exhaustive,
    found,
    hash_of,
    log_coverage,
    next_of,
    plain_beam,
    random_tables,
    search,
    stepper,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tfkd.beam_search import Readout, Scorer, beam_search, length_penalty
from tfkd.config import SearchControls
from tfkd.errors import ConfigError

NORMALISATIONS = {
    "none": SearchControls(),
    "gnmt": SearchControls(length_penalty=0.6),
    "mean": SearchControls(normalisation="mean"),
}
each_normalisation = pytest.mark.parametrize(
    "controls", NORMALISATIONS.values(), ids=NORMALISATIONS
)
# (vocabulary, most tokens, models in a batch, batches): 3 x 350 models.
SIZES = [(3, 6, 30, 5), (4, 4, 24, 4), (4, 5, 16, 2), (5, 4, 16, 4), (2, 6, 6, 1), (5, 6, 2, 1)]


def reproducible(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def teacher_forced(table, ids):
    """The log-probability of each token, from the table itself."""
    return [table[hash_of(ids[:place])][token] for place, token in enumerate(ids)]


def assert_same(result, row, expected):
    """The k best of one utterance are `expected`, and what is said of each is true."""
    k = result.num_tokens.shape[1]
    assert found(result, row) == [candidate.ids for candidate in expected[:k]]
    for rank, candidate in enumerate(expected[:k]):
        assert result.is_finished[row, rank] == candidate.is_finished
        np.testing.assert_allclose(result.log_prob[row, rank], candidate.log_prob, atol=1e-5)
        np.testing.assert_allclose(result.total[row, rank], candidate.total, atol=1e-5)
        np.testing.assert_allclose(result.score[row, rank], candidate.score, atol=1e-5)
    assert (result.total[row, len(expected) :] == np.float32(-1e30)).all()
    assert (result.log_prob[row, len(expected) :] == np.float32(-1e30)).all()


# --- exactness


@each_normalisation
@pytest.mark.parametrize(("vocabulary", "max_tokens", "models", "batches"), SIZES)
def test_equals_exhaustive_search(controls, vocabulary, max_tokens, models, batches):
    width = covering_width(vocabulary, max_tokens)
    which = list(NORMALISATIONS.values()).index(controls)
    for batch in range(batches):
        rng = np.random.default_rng([which, vocabulary, max_tokens, batch])
        tables = random_tables(rng, models, vocabulary)
        k = int(rng.integers(1, width + 1)) if batch else width
        result = search(tables, width=width, k=k, max_tokens=max_tokens, controls=controls)
        for row, table in enumerate(tables):
            assert_same(result, row, exhaustive(next_of(table), max_tokens, controls))


def test_the_random_models_end_early_and_tie():
    """Otherwise the tests above would show little."""
    tables = random_tables(np.random.default_rng(0), 40, 4)
    ranked = [exhaustive(next_of(table), 5, SearchControls())[:8] for table in tables]
    assert np.mean([len(best.ids) < 5 for each in ranked for best in each]) > 0.5
    ties = [len({c.score for c in each}) < len(each) for each in ranked]
    assert np.mean(ties[::2]) > 0.9


@st.composite
def some_controls(draw):
    """Any mixture of controls; scores of coarse tables stay exact but under temperature."""
    is_mean = draw(st.booleans())
    return SearchControls(
        normalisation="mean" if is_mean else "gnmt",
        length_penalty=0.0 if is_mean else draw(st.sampled_from([0.0, 0.7])),
        coverage_penalty=draw(st.sampled_from([0.0, 0.5])),
        min_tokens=draw(st.integers(1, 4)),
        eos_threshold=draw(st.sampled_from([None, 0.0, 0.5, 1.5])),
        no_repeat_ngram=draw(st.integers(0, 3)),
        temperature=draw(st.sampled_from([1.0, 1.0, 0.5, 3.0])),
    )


@reproducible(60)
@given(
    seed=st.integers(0, 2**31),
    controls=some_controls(),
    weights=st.lists(st.sampled_from([0.0, 0.5, 2.0]), max_size=2),
    limits=st.none() | st.lists(st.integers(1, 5), min_size=4, max_size=4),
    k=st.integers(1, 30),
    pad_id=st.sampled_from([PAD, EOS, 3, 4, -1, 1000]),
)
def test_controls_and_scorers_equal_exhaustive_search(seed, controls, weights, limits, k, pad_id):
    rng = np.random.default_rng(seed)
    tables, *others = (random_tables(rng, 4, 4) for _ in range(1 + len(weights)))
    if controls.temperature != 1:  # its logarithms round ties in their own way
        tables = tables[[1, 3, 1, 3]]
    result = search(
        tables,
        width=covering_width(4, 4),
        k=k,
        max_tokens=4,
        controls=controls,
        scorer_tables=list(zip(weights, others, strict=True)),
        token_limits=limits,
        pad_id=pad_id,
    )
    for row, table in enumerate(tables):
        scorers = [
            Weighted(w, next_of(other[row])) for w, other in zip(weights, others, strict=True)
        ]
        limit = min(limits[row], 4) if limits else 4
        expected = exhaustive(next_of(table), limit, controls, scorers, log_coverage)
        assert_same(result, row, expected)
        for rank, candidate in enumerate(expected[:k]):
            steps = len(candidate.ids)
            fed = [hash_of(candidate.ids[:step]) for step in range(steps)]
            assert result.coverage[row, rank] == fed[-1]
            np.testing.assert_array_equal(result.frames[row, rank, :steps], fed)


@pytest.mark.slow
@reproducible(60)
@given(
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(2, 6),
    max_tokens=st.integers(1, 7),
    width=st.integers(1, 12),
    controls=some_controls(),
    weights=st.lists(st.sampled_from([0.0, 0.5, 2.0]), max_size=2),
    limits=st.none() | st.lists(st.integers(1, 7), min_size=4, max_size=4),
    pad_id=st.sampled_from([PAD, 6, -1]),
)
def test_a_width_that_covers_little_finds_what_a_plain_beam_finds(
    seed, vocabulary, max_tokens, width, controls, weights, limits, pad_id
):
    rng = np.random.default_rng(seed)
    controls = dataclasses.replace(controls, temperature=1.0)  # which rounds ties in its own way
    tables, *others = (random_tables(rng, 4, vocabulary) for _ in range(1 + len(weights)))
    result = search(
        tables,
        width=width,
        k=width,
        max_tokens=max_tokens,
        controls=controls,
        scorer_tables=list(zip(weights, others, strict=True)),
        token_limits=limits,
        pad_id=pad_id,
    )
    for row, table in enumerate(tables):
        scorers = [
            Weighted(w, next_of(other[row])) for w, other in zip(weights, others, strict=True)
        ]
        limit = min(limits[row], max_tokens) if limits else max_tokens
        expected = plain_beam(next_of(table), limit, controls, scorers, log_coverage, width=width)
        assert_same(result, row, expected[:width])


@each_normalisation
@pytest.mark.parametrize("width", [1, 2, 3, 7, 64])
def test_any_width_is_self_consistent(controls, width):
    tables = random_tables(np.random.default_rng(width), 60, 5)
    limits = np.random.default_rng(0).integers(1, 8, 60)

    def run(rows):
        return search(
            tables[rows],
            width=width,
            k=width,
            max_tokens=7,
            controls=controls,
            token_limits=limits[rows],
        )

    result = run(slice(None))
    shuffled = np.random.default_rng(1).permutation(60)
    for other, rows in [(run(shuffled), shuffled), *((run([row]), [row]) for row in (3, 4))]:
        for got, expected in zip(other, result, strict=True):
            np.testing.assert_array_equal(got, expected[rows])
    for row, table in enumerate(tables):
        sequences = found(result, row)
        assert len(set(sequences)) == len(sequences) > 0
        for rank, ids in enumerate(sequences):
            expected = teacher_forced(table, ids)
            np.testing.assert_allclose(
                result.token_log_probs[row, rank, : len(ids)], expected, atol=1e-6
            )
            np.testing.assert_allclose(result.log_prob[row, rank], sum(expected), atol=1e-5)
            score = sum(expected) / divisor(len(ids), controls)
            np.testing.assert_allclose(result.score[row, rank], score, atol=1e-5)
            assert (result.token_ids[row, rank, len(ids) :] == PAD).all()
            assert result.is_finished[row, rank] == (ids[-1] == EOS)
            assert result.is_finished[row, rank] or len(ids) == limits[row]


def test_width_one_is_greedy():
    tables = random_tables(np.random.default_rng(0), 100, 5)
    result = search(tables, width=1, k=1, max_tokens=8)
    for row, table in enumerate(tables):
        ids = ()
        while len(ids) < 8 and EOS not in ids:
            ids = (*ids, int(table[hash_of(ids)].argmax()))
        assert found(result, row) == [ids]


# --- when it ends


def steps_needed(table, max_tokens, k, controls, scorer):
    """Steps after which no unfinished sequence can enter the k best, however likely its rest."""
    finished, alive = [], [((), np.float32(0))]
    for step in range(1, max_tokens + 1):
        grown = []
        for prefix, total in alive:
            ranking = table[hash_of(prefix)]
            if scorer is not None:
                ranking = ranking + np.float32(0.5) * scorer[hash_of(prefix)]
            coverage = np.float32(controls.coverage_penalty) * np.float32(log_coverage(prefix))
            finished.append((total + ranking[EOS]) / divisor(step, controls) + coverage)
            grown += [((*prefix, t), total + r) for t, r in enumerate(ranking) if t != EOS]
        alive = grown
        kth = sorted(finished, reverse=True)[k - 1] if len(finished) >= k else -np.inf
        in_reach = max(total for _, total in alive) / divisor(max_tokens, controls)
        if in_reach <= kth:
            return step
    return max_tokens


@pytest.mark.parametrize("limit", [5, 4])
@pytest.mark.parametrize("with_scorer", [False, True])
@pytest.mark.parametrize("coverage_penalty", [0.0, 0.5])
@each_normalisation
def test_it_ends_as_soon_as_nothing_can_improve_and_no_earlier(
    controls, coverage_penalty, with_scorer, limit
):
    controls = dataclasses.replace(controls, coverage_penalty=coverage_penalty)
    rng = np.random.default_rng(7)
    tables, scorers = random_tables(rng, 8, 4), random_tables(rng, 8, 4)
    tables[4:] -= np.float32(5) * (np.arange(4) != EOS)  # these models are sure of their end
    counts = []
    for row, k in enumerate((1, 2, 3, 5, 1, 2, 3, 5)):
        calls = []
        step_fn = stepper(tables[[row]], covering_width(4, 5))

        def counted(token_ids, state, step_fn=step_fn, calls=calls):
            calls.append(1)
            return step_fn(token_ids, state)

        search(
            tables[[row]],
            width=covering_width(4, 5),
            k=k,
            max_tokens=5,
            controls=controls,
            scorer_tables=[(0.5, scorers[[row]])] if with_scorer else [],
            step_fn=counted,
            token_limits=None if limit == 5 else [limit],
        )
        scorer = scorers[row] if with_scorer else None
        assert len(calls) == steps_needed(tables[row], limit, k, controls, scorer)
        counts.append(len(calls))
    assert min(counts) < max(counts) == limit


# --- what controls do, by hand


def by_hand(log_probs, **settings):
    """Searches one model that knows no history, with V = 4 and tokens 2 and 3 besides eos."""
    table = np.tile(np.log(np.float32(log_probs)), (1, brute_force.NUM_HASHES, 1))
    return search(table, width=4, k=1, max_tokens=6, controls=SearchControls(**settings))


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, (EOS,)),
        ({"min_tokens": 3}, (3, 3, EOS)),
        # log 0.5 = -0.69 is not above 0.5 * log 0.4 = -0.46, but is above log 0.4 = -0.92.
        ({"eos_threshold": 0.5}, (3, 3, 3, 3, 3, 3)),
        ({"eos_threshold": 1.0}, (EOS,)),
        ({"min_tokens": 3, "no_repeat_ngram": 1}, (2, 3, EOS)),
        ({"min_tokens": 4, "no_repeat_ngram": 2}, (2, 3, 3, EOS)),
        ({"no_repeat_ngram": 7, "min_tokens": 6}, (3, 3, 3, 3, 3, EOS)),
    ],
)
def test_constraints_do_what_they_say(settings, ids):
    assert found(by_hand([1e-30, 0.5, 0.1, 0.4], **settings), 0) == [ids]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("pad_id", [PAD, 3, 4, 5, -1, -5, 10**6])
def test_padding_of_a_shorter_neighbour_forbids_no_token(pad_id, size):
    """An utterance at its own limit waits, padded, while others go on: see issue 26.12."""
    tables = random_tables(np.random.default_rng(size), 6, 4)
    tables[..., EOS] = -50.0  # Nothing ends early, so limits decide how long each waits.
    limits = [1, 9, 2, 9, 3, 9]
    settings = {"width": 3, "k": 3, "max_tokens": 9}
    settings["controls"] = controls = SearchControls(no_repeat_ngram=size)
    result = search(tables, token_limits=limits, pad_id=pad_id, **settings)
    for row, limit in enumerate(limits):
        expected = plain_beam(next_of(tables[row]), limit, controls, width=3)
        assert [candidate.ids for candidate in expected[:3]] == found(result, row)
        padding = [
            ids[count:]
            for ids, count in zip(result.token_ids[row], result.num_tokens[row], strict=True)
        ]
        assert (np.concatenate(padding) == pad_id).all()


def test_limits_may_be_of_any_integer_type():
    tables = random_tables(np.random.default_rng(0), 3, 4)
    settings = {"width": 3, "k": 2, "max_tokens": 5}
    expected = search(tables, token_limits=[1, 3, 5], **settings)
    for dtype in (tf.int64, tf.uint8):
        got = search(tables, token_limits=tf.constant([1, 3, 5], dtype), **settings)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scores_are_those_of_the_papers():
    half = np.log(0.5)
    plain = by_hand([1e-30, 0.5, 0.1, 0.4], length_penalty=0.5, min_tokens=2)
    assert plain.score[0, 0] == pytest.approx((half + np.log(0.4)) / (7 / 6) ** 0.5)
    mean = by_hand([1e-30, 0.5, 0.1, 0.4], normalisation="mean", min_tokens=2)
    assert mean.score[0, 0] == pytest.approx((half + np.log(0.4)) / 2)
    tempered = by_hand([1e-30, 0.5, 0.1, 0.4], temperature=0.5)
    assert tempered.log_prob[0, 0] == pytest.approx(half)
    assert tempered.score[0, 0] == pytest.approx(np.log(0.25 / (0.25 + 0.01 + 0.16)))
    assert float(length_penalty(7, 1.0)) == pytest.approx(2.0)


# --- hard cases


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_an_impossible_vocabulary_gives_empty_places(bad, temperature):
    tables = random_tables(np.random.default_rng(0), 2, 4)
    tables[0] = bad
    controls = SearchControls(temperature=temperature, coverage_penalty=0.1)
    result = search(tables, width=3, k=2, max_tokens=5, controls=controls)
    assert not result.num_tokens[0].any()
    for value in (result.log_prob, result.score):
        assert (value[0] == np.float32(-1e30)).all()
    assert result.num_tokens[1].all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_a_bad_value_rules_its_token_out_and_no_other(bad):
    tables = random_tables(np.random.default_rng(0), 1, 4)
    tables[:, :, 2] = bad
    result = search(tables, width=40, k=9, max_tokens=3)
    masked = np.where(np.arange(4) == 2, np.float32(-1e30), tables[0])
    assert_same(result, 0, exhaustive(next_of(masked), 3, SearchControls()))


def test_a_width_far_above_the_vocabulary_finds_what_there_is():
    tables = random_tables(np.random.default_rng(0), 2, 3)
    result = search(tables, width=64, k=64, max_tokens=2)
    for row, table in enumerate(tables):
        expected = exhaustive(next_of(table), 2, SearchControls())
        assert len(expected) == 7
        assert_same(result, row, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: (state, state), "the structures differ"),
        (lambda state: None, r"int32 \(3,\) became None, no tensor"),
        (lambda state: tf.cast(state, tf.float32), "int32 .* became float32"),
        (lambda state: tf.expand_dims(state, 1), r"\(3,\) became int32 \(3, 1\)"),
    ],
)
def test_a_state_that_changes_its_form_is_named(change, message):
    tables = random_tables(np.random.default_rng(0), 1, 4)

    def step_fn(token_ids, state):
        log_probs, state = stepper(tables, 3)(token_ids, state)
        return log_probs, change(state)

    with pytest.raises(ValueError, match=message):
        search(tables, width=3, k=1, max_tokens=4, step_fn=step_fn)


@pytest.mark.parametrize("dtype", [tf.float64, tf.float16, tf.bfloat16])
def test_log_probs_may_be_of_any_float_type(dtype):
    tables = random_tables(np.random.default_rng(0), 3, 4)
    tables = tf.cast(tf.cast(tables, dtype), tf.float32).numpy()  # both models say the same

    def step_fn(token_ids, state):
        log_probs, state = stepper(tables, 3)(token_ids, state)
        return tf.cast(log_probs, dtype), state

    settings = {"width": 3, "k": 2, "max_tokens": 5}
    settings["controls"] = SearchControls(length_penalty=0.6)
    got, expected = search(tables, step_fn=step_fn, **settings), search(tables, **settings)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_empty_batch_gives_an_empty_result():
    none = np.zeros((0, 61, 4), np.float32)
    controls = SearchControls(length_penalty=0.6, no_repeat_ngram=2)
    result = search(none, width=3, k=2, max_tokens=5, token_limits=[], controls=controls)
    assert result.token_ids.shape == (0, 2, 5)
    assert result.log_prob.shape == (0, 2)


@pytest.mark.parametrize("change", [lambda x: x[0], lambda x: x[None], lambda x: x[:2]])
def test_log_probs_of_another_shape_are_named(change):
    tables = random_tables(np.random.default_rng(0), 1, 4)

    def step_fn(token_ids, state):
        log_probs, state = stepper(tables, 3)(token_ids, state)
        return change(log_probs), state

    with pytest.raises(ValueError, match=r"must be \[N, V\], a row for each token id"):
        search(tables, width=3, k=1, max_tokens=4, step_fn=step_fn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "need 1 <= num_hypotheses <= beam_width"),
        ({"k": 3}, "need 1 <= num_hypotheses <= beam_width"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"controls": SearchControls(length_penalty=-1)}, "length_penalty: -1.0 is below 0"),
        ({"controls": SearchControls(temperature=0)}, "temperature: 0.0 is below"),
        ({"controls": SearchControls("mean", 0.5)}, "has no meaning beside normalisation: mean"),
        (
            {"controls": SearchControls(length_penalty=np.nan)},
            "nan is not a finite number",
        ),
        ({"controls": SearchControls("sum")}, "'sum' is none of gnmt, mean"),
        ({"scorer_tables": [(np.nan, np.zeros((1, 61, 4), np.float32))]}, "must be at least 0"),
        # It would raise scores, so that the search could not know when to end.
        ({"scorer_tables": [(-0.1, np.zeros((1, 61, 4), np.float32))]}, "must be at least 0"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    settings = {"width": 2, "k": 1, "max_tokens": 5, **settings}
    with pytest.raises((ValueError, ConfigError), match=message):
        search(np.zeros((1, 61, 4), np.float32), **settings)


@pytest.mark.parametrize(("vocabulary", "eos_id"), [(4, 4), (4, -1), (1, 0)])
def test_an_end_that_is_no_token_or_the_only_one_is_refused(vocabulary, eos_id):
    with pytest.raises(ValueError, match="eos"):
        beam_search(
            lambda token_ids, state: (tf.zeros([2, vocabulary]), state),
            tf.zeros([1, 1]),
            batch_size=1,
            beam_width=2,
            num_hypotheses=1,
            max_tokens=2,
            sos_id=0,
            eos_id=eos_id,
            pad_id=0,
        )


def test_a_coverage_penalty_needs_its_readout():
    with pytest.raises(ValueError, match="needs a readout that gives log_coverage"):
        beam_search(
            stepper(np.zeros((1, 61, 4), np.float32), 1),
            tf.zeros([1], tf.int32),
            batch_size=1,
            beam_width=1,
            num_hypotheses=1,
            max_tokens=2,
            sos_id=SOS,
            eos_id=EOS,
            pad_id=PAD,
            controls=SearchControls(coverage_penalty=0.1),
            readout=lambda known: Readout(known, tf.cast(known, tf.float32)),
        )


def test_a_thousand_ragged_batches_and_weights_trace_once():
    """Also where a scorer's weight is a tensor, which tuning changes from call to call."""
    traces = []

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 4]), tf.TensorSpec([])], autograph=False
    )
    def decode(frames, weight):
        traces.append(1)
        of_utterance = tf.reduce_logsumexp(frames, 1)

        def step(token_ids, state):
            logits = tf.repeat(of_utterance, 2, 0) + state
            return tf.nn.log_softmax(logits), state + tf.one_hot(token_ids, 4)

        state = tf.zeros_like(of_utterance)
        return beam_search(
            step,
            state,
            batch_size=tf.shape(frames)[0],
            beam_width=2,
            num_hypotheses=2,
            max_tokens=2,
            sos_id=SOS,
            eos_id=EOS,
            pad_id=PAD,
            scorers=[Scorer(weight, state, step)],
        ).log_prob

    rng = np.random.default_rng(0)
    for _ in range(1000):
        shape = (*rng.integers(1, 6, 2), 4)
        log_prob = decode(tf.constant(rng.normal(size=shape), tf.float32), tf.constant(0.5))
        assert log_prob.shape == (shape[0], 2)
    assert len(traces) == 1
