"""The k-best is exact: exhaustive search on random small models agrees, ties and all."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfkd.beam_search import Readout, Scorer, beam_search, length_penalty
from tfkd.config import SearchControls
from tfkd.errors import ConfigError

PAD, EOS, SOS = 0, 1, 2


def table_model(rng, vocabulary, coarse):
    """Log-probs of the next token by (last token, steps taken so far mod 3).

    Coarse tables hold multiples of 1/8, whose sums are exact in float32, so that equal scores are
    equal; they are not normalised, which the search does not need.
    """
    if coarse:
        return (-rng.integers(0, 6, (3, vocabulary, vocabulary)) / 8).astype(np.float32)
    logits = rng.normal(size=(3, vocabulary, vocabulary)) * 2
    logits[..., EOS] += 1.0
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def run(tables, *, width, k, max_tokens, alpha=0.0):
    """Searches a batch of tables; the state holds the step count of each hypothesis."""
    tables = tf.constant(np.stack(tables))

    def step(token_ids, state):
        utterance = tf.range(tf.shape(token_ids)[0]) // width
        index = tf.stack([utterance, state % 3, token_ids], 1)
        return tf.gather_nd(tables, index), state + 1

    return beam_search(
        step,
        tf.zeros([len(tables)], tf.int32),
        batch_size=len(tables),
        beam_width=width,
        num_hypotheses=k,
        max_tokens=max_tokens,
        sos_id=SOS % tables.shape[-1],
        eos_id=EOS,
        pad_id=PAD,
        controls=SearchControls(length_penalty=alpha),
    )


def log_prob_of(table, ids):
    total, last = np.float32(0), SOS % len(table[0])
    for step, token in enumerate(ids):
        total = np.float32(total + table[step % 3][last][token])
        last = token
    return total


def exhaustive(table, max_tokens, alpha):
    """Every finished sequence, then every cut-off one, in the order that the module states."""
    vocabulary = len(table[0])
    others = [token for token in range(vocabulary) if token != EOS]
    finished, cut_off = [], []
    for length in range(max_tokens):
        for prefix in itertools.product(others, repeat=length):
            finished.append((*prefix, EOS))
    cut_off.extend(itertools.product(others, repeat=max_tokens))

    def rank(ids):
        score = np.float32(log_prob_of(table, ids)) / length_penalty(len(ids), alpha).numpy()
        return (-score, len(ids), ids)

    return sorted(finished, key=rank) + sorted(cut_off, key=rank)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(3, 4),
    max_tokens=st.integers(1, 3),
    coarse=st.booleans(),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
    k=st.integers(1, 12),
)
def test_equals_exhaustive_search(seed, vocabulary, max_tokens, coarse, alpha, k):
    rng = np.random.default_rng(seed)
    width = max(vocabulary * (vocabulary - 1) ** (max_tokens - 1), k)  # covers the space
    tables = [table_model(rng, vocabulary, coarse) for _ in range(3)]
    result = run(tables, width=width, k=k, max_tokens=max_tokens, alpha=alpha)
    for b, table in enumerate(tables):
        expected = exhaustive(table, max_tokens, alpha)[:k]
        lengths = result.num_tokens[b].numpy()
        found = [tuple(row[:n]) for row, n in zip(result.token_ids[b].numpy(), lengths) if n]
        assert found == expected
        assert not result.num_tokens[b, len(expected) :].numpy().any()
        for rank, ids in enumerate(expected):
            np.testing.assert_allclose(result.log_prob[b, rank], log_prob_of(table, ids), atol=1e-5)
            assert bool(result.is_finished[b, rank]) == (ids[-1] == EOS)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 5), alpha=st.sampled_from([0.0, 0.8]))
def test_any_width_is_self_consistent(seed, width, alpha):
    rng = np.random.default_rng(seed)
    tables = [table_model(rng, 5, False) for _ in range(4)]
    result = run(tables, width=width, k=width, max_tokens=6, alpha=alpha)
    reversed_batch = run(tables[::-1], width=width, k=width, max_tokens=6, alpha=alpha)
    for b, table in enumerate(tables):
        alone = run([table], width=width, k=width, max_tokens=6, alpha=alpha)
        np.testing.assert_array_equal(alone.token_ids[0], result.token_ids[b])
        np.testing.assert_array_equal(reversed_batch.token_ids[3 - b], result.token_ids[b])
        lengths = result.num_tokens[b].numpy()
        ids = [tuple(row[:n]) for row, n in zip(result.token_ids[b].numpy(), lengths) if n]
        assert len(set(ids)) == len(ids)
        for rank, sequence in enumerate(ids):
            expected = log_prob_of(table, sequence)
            np.testing.assert_allclose(result.log_prob[b, rank], expected, atol=1e-5)
            np.testing.assert_allclose(
                tf.reduce_sum(result.token_log_probs[b, rank]), expected, atol=1e-5
            )
            np.testing.assert_allclose(
                result.score[b, rank], expected / length_penalty(len(sequence), alpha), atol=1e-5
            )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    weights=st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=1, max_size=2),
    coarse=st.booleans(),
    alpha=st.sampled_from([0.0, 0.6]),
)
def test_scorers_join_the_ranking_and_leave_the_log_prob_alone(seed, weights, coarse, alpha):
    """Exhaustive search on the weighted sum of the tables; the state of each counts steps."""
    rng = np.random.default_rng(seed)
    own, *others = (table_model(rng, 4, coarse) for _ in range(1 + len(weights)))

    def stepper(table):
        return lambda ids, state: (
            tf.gather_nd(tf.constant(table), tf.stack([state % 3, ids], 1)),
            state + 1,
        )

    result = beam_search(
        stepper(own),
        tf.zeros([1], tf.int32),
        batch_size=1,
        beam_width=40,
        num_hypotheses=9,
        max_tokens=3,
        sos_id=SOS,
        eos_id=EOS,
        pad_id=PAD,
        controls=SearchControls(length_penalty=alpha),
        scorers=[
            Scorer(tf.constant(weight), tf.zeros([1], tf.int32), stepper(table))
            for weight, table in zip(weights, others)
        ],
    )
    joint = own + sum(np.float32(w) * table for w, table in zip(weights, others))
    expected = exhaustive(joint, 3, alpha)[:9]
    ids = [tuple(row[:n]) for row, n in zip(result.token_ids[0].numpy(), result.num_tokens[0])]
    assert ids == expected
    for rank, sequence in enumerate(ids):
        np.testing.assert_allclose(result.log_prob[0, rank], log_prob_of(own, sequence), atol=1e-5)
        score = log_prob_of(joint, sequence) / length_penalty(len(sequence), alpha)
        np.testing.assert_allclose(result.score[0, rank], score, atol=1e-5)


def test_a_scorer_of_negative_weight_is_refused():
    """It would raise scores, so that the search could not know when to end."""
    with pytest.raises(ValueError, match="must not be negative"):
        beam_search(
            lambda ids, state: (tf.zeros([1, 3]), state),
            tf.zeros([1]),
            batch_size=1,
            beam_width=1,
            num_hypotheses=1,
            max_tokens=2,
            sos_id=SOS,
            eos_id=EOS,
            pad_id=PAD,
            scorers=[Scorer(-0.1, tf.zeros([1]), lambda ids, state: (tf.zeros([1, 3]), state))],
        )


@pytest.mark.parametrize("seed", range(8))
def test_width_one_is_greedy(seed):
    table = table_model(np.random.default_rng(seed), 5, coarse=seed % 2 == 0)
    last, ids = SOS, []
    for step in range(8):
        last = int(table[step % 3][last].argmax())
        ids.append(last)
        if last == EOS:
            break
    result = run([table], width=1, k=1, max_tokens=8)
    assert list(result.token_ids[0, 0].numpy()[: result.num_tokens[0, 0]]) == ids


def test_early_stop_reads_no_more_steps_than_needed():
    """Certain eos at the first step: nothing later can win, so one step is enough."""
    log_probs = np.full((3, 4, 4), -20, np.float32)
    log_probs[:, :, EOS] = 0
    calls = []

    def step(token_ids, state):
        tf.py_function(lambda: calls.append(1), [], [])
        return tf.gather(tf.constant(log_probs[0]), token_ids), state

    tf.function(
        lambda: beam_search(
            step,
            tf.zeros([1]),
            batch_size=1,
            beam_width=2,
            num_hypotheses=1,
            max_tokens=50,
            sos_id=SOS,
            eos_id=EOS,
            pad_id=PAD,
        )
    )()
    assert len(calls) == 1


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_impossible_vocabulary_gives_empty_places(bad):
    table = np.full((3, 4, 4), bad, np.float32)
    result = run(
        [table, table_model(np.random.default_rng(0), 4, False)], width=3, k=2, max_tokens=5
    )
    assert not result.num_tokens[0].numpy().any()
    assert (result.log_prob[0].numpy() == np.float32(-1e30)).all()
    assert result.num_tokens[1].numpy().all()


@pytest.mark.parametrize(
    ("width", "k", "max_tokens", "alpha"), [(0, 1, 5, 0), (2, 3, 5, 0), (2, 1, 0, 0), (2, 1, 5, -1)]
)
def test_refuses_senseless_settings(width, k, max_tokens, alpha):
    with pytest.raises((ValueError, ConfigError), match="must|need|below"):
        run([np.zeros((3, 4, 4), np.float32)], width=width, k=k, max_tokens=max_tokens, alpha=alpha)


def test_readout_is_of_the_hypothesis_itself():
    """The state sums the token ids that were fed; the readout must match each result."""
    table = table_model(np.random.default_rng(3), 5, False)

    def step(token_ids, state):
        return tf.gather(tf.constant(table[0]), token_ids), state + tf.cast(token_ids, tf.float32)

    result = beam_search(
        step,
        tf.zeros([1]),
        batch_size=1,
        beam_width=4,
        num_hypotheses=4,
        max_tokens=5,
        sos_id=SOS,
        eos_id=EOS,
        pad_id=PAD,
        readout=lambda state: Readout(tf.cast(state, tf.int32), state),
    )
    for rank in range(4):
        ids = result.token_ids[0, rank].numpy()[: result.num_tokens[0, rank]]
        fed = ids[:-1]
        assert result.coverage[0, rank] == SOS + fed.sum()
        np.testing.assert_array_equal(
            result.frames[0, rank, : len(ids)], SOS + np.cumsum([0, *fed])
        )
