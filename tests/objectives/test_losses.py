"""Losses by hand, by finite differences, and by counting every alignment."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_token_ids

from tfkd.objectives.losses import ctc, sequence_cross_entropy
from tfkd.text import EOS_ID, FIRST_PIECE_ID, PAD_ID, SOS_ID, UNK_ID

A, B = FIRST_PIECE_ID, FIRST_PIECE_ID + 1
NEVER = [PAD_ID, UNK_ID, SOS_ID]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def as_a_recogniser_gives(logits):
    """Very negative for the tokens that are never emitted."""
    logits = logits.copy()
    logits[..., NEVER] -= 1e9
    return logits


def numpy_cross_entropy(logits, token_ids, weights, label_smoothing=0.0):
    """The definition, token by token in float64."""
    total = of_weights = 0.0
    for b, k in np.ndindex(weights.shape):
        for logit, token in zip(logits[b, k].astype(np.float64), token_ids[b, k], strict=True):
            if token == PAD_ID:
                continue
            emitted = [v for v in range(len(logit)) if v not in NEVER]
            target = np.zeros(len(logit))
            target[emitted] = label_smoothing / len(emitted)
            target[token] += 1 - label_smoothing
            log_probs = logit[emitted] - np.log(np.exp(logit[emitted]).sum())
            total -= weights[b, k] * target[emitted] @ log_probs
            of_weights += weights[b, k]
    return total / of_weights


def gradient_of(loss, values):
    values = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = loss(values)
    return tape.gradient(result, values).numpy()


def assert_gradient_by_differences(loss, values, places, step=1e-3, atol=2e-4):
    """Compares the gradient at `places` with central differences of the loss."""
    gradient = gradient_of(loss, values)
    assert np.isfinite(gradient).all()
    for place in places:
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[place] += sign * step
            ends.append(float(loss(tf.constant(moved))))
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=atol), place
    return gradient


# ── cross-entropy


def test_cross_entropy_of_three_tokens_by_hand():
    # Probabilities of (eos, A, B), in halves and quarters.
    probabilities = [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]
    logits = np.full((1, 1, 3, 6), -1e9, np.float32)
    logits[0, 0, :, [EOS_ID, A, B]] = np.log(probabilities).T
    one = tf.ones([1, 1])
    loss = sequence_cross_entropy(logits, tf.constant([[[A, B, EOS_ID]]]), one)
    assert float(loss) == pytest.approx(np.log(2 * 4 * 4) / 3, rel=1e-6)
    # The last token is padding: it neither adds nor counts.
    loss = sequence_cross_entropy(logits, tf.constant([[[A, EOS_ID, PAD_ID]]]), one)
    assert float(loss) == pytest.approx(np.log(2 * 2) / 2, rel=1e-6)
    # 0.9 of the target on the token, and 0.1 spread evenly over the three.
    loss = sequence_cross_entropy(logits, tf.constant([[[A, EOS_ID, PAD_ID]]]), one, 0.1)
    expected = 0.9 * np.log(2 * 2) / 2 + 0.1 * np.log(2 * 4 * 4) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("hypotheses", [1, 3])
def test_cross_entropy_is_its_definition(label_smoothing, hypotheses):
    token_ids = random_token_ids(np.random.default_rng(0), 4, hypotheses)
    logits = draw(*token_ids.shape, VOCAB_SIZE) * 2
    weights = np.random.default_rng(1).uniform(size=(4, hypotheses)).astype(np.float32)
    weights[2] = 0.0
    got = sequence_cross_entropy(as_a_recogniser_gives(logits), token_ids, weights, label_smoothing)
    expected = numpy_cross_entropy(logits, token_ids, weights, label_smoothing)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_of_k_weighted_hypotheses_is_the_weighted_sum_of_each():
    token_ids = random_token_ids(np.random.default_rng(0), 3, 4)
    logits = as_a_recogniser_gives(draw(*token_ids.shape, VOCAB_SIZE))
    weights = np.random.default_rng(1).dirichlet(np.ones(4), 3).astype(np.float32)
    total = tokens = 0.0
    for b, k in np.ndindex(3, 4):
        one = (slice(b, b + 1), slice(k, k + 1))
        count = np.sum(token_ids[one] != PAD_ID)
        alone = sequence_cross_entropy(logits[one], token_ids[one], tf.ones([1, 1]), 0.1)
        total += weights[b, k] * float(alone) * count
        tokens += weights[b, k] * count
    got = sequence_cross_entropy(logits, token_ids, weights, 0.1)
    assert float(got) == pytest.approx(total / tokens, rel=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_cross_entropy_gradient(label_smoothing):
    token_ids = random_token_ids(np.random.default_rng(0), 2, 2, longest=3)
    weights = np.array([[0.7, 0.3], [1.0, 0.0]], np.float32)
    logits = as_a_recogniser_gives(draw(2, 2, 3, VOCAB_SIZE))
    places = [p for p in np.ndindex(logits.shape) if p[-1] not in NEVER]
    gradient = assert_gradient_by_differences(
        lambda x: sequence_cross_entropy(x, token_ids, weights, label_smoothing), logits, places
    )
    is_token = (token_ids != PAD_ID) & (weights > 0)[:, :, None]
    assert not gradient[~is_token].any()
    assert not gradient[..., NEVER].any()
    assert (np.abs(gradient[is_token]).max(-1) > 0).all()


def test_cross_entropy_where_nothing_has_weight_is_zero():
    token_ids = np.array([[[A, EOS_ID]], [[PAD_ID, PAD_ID]]])
    logits = as_a_recogniser_gives(draw(2, 1, 2, VOCAB_SIZE))
    for weights in ([[0.0], [1.0]], [[0.0], [0.0]]):

        def loss(x, weights=weights):
            return sequence_cross_entropy(x, token_ids, tf.constant(weights), 0.1)

        assert float(loss(logits)) == 0.0
        assert not gradient_of(loss, logits).any()


# ── CTC


def collapsed(alignment):
    """Neighbours that are equal count once, then blanks go."""
    return [token for token, _ in itertools.groupby(alignment) if token != PAD_ID]


def brute_force_ctc(logits, steps, labels):
    """Minus the log of the summed probability of every alignment of [S, V] that says `labels`."""
    logits = logits[:steps].astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = 0.0
    for alignment in itertools.product(range(logits.shape[1]), repeat=steps):
        if collapsed(alignment) == list(labels):
            total += np.exp(log_probs[np.arange(steps), alignment].sum())
    return -np.log(total)


def targets(*sequences, hypotheses=1, longest=5):
    """[B, K, longest]: each sequence with eos and padding."""
    rows = [[*s, EOS_ID] + [PAD_ID] * (longest - 1 - len(s)) for s in sequences]
    return np.array(rows, np.int32).reshape(-1, hypotheses, longest)


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        (1, [A]),
        (2, [A]),
        (2, [A, B]),
        (3, [A, A]),
        (4, [A, B]),
        (4, [B, B]),
        (4, [A, B, A]),
        (4, [A, A, B]),
        (4, [UNK_ID, A]),
        (4, [A, B, A, B]),
        (1, []),
        (4, []),
    ],
)
def test_ctc_sums_over_every_alignment(steps, labels):
    logits = draw(1, 4, 6)  # of which `steps` are not padding
    got = ctc(logits, tf.constant([steps]), targets(labels), tf.ones([1, 1]))
    expected = brute_force_ctc(logits[0], steps, labels) / max(1, len(labels))
    assert float(got) == pytest.approx(expected, rel=1e-4)


def test_ctc_of_weighted_hypotheses_is_per_token_of_the_labels():
    logits = draw(2, 4, 6) * 2
    sequences = [[A], [A, B, B], [B, A], [A]]
    token_ids, steps = targets(*sequences, hypotheses=2), [4, 3]
    weights = np.array([[0.75, 0.25], [0.5, 0.0]], np.float32)
    total = tokens = 0.0
    for n, labels in enumerate(sequences):
        weight = weights[n // 2, n % 2]
        total += weight * brute_force_ctc(logits[n // 2], steps[n // 2], labels)
        tokens += weight * len(labels)
    got = ctc(logits, tf.constant(steps), token_ids, weights)
    assert float(got) == pytest.approx(total / tokens, rel=1e-4)


def test_ctc_of_an_empty_transcript_by_hand():
    # The blank has a half, a quarter and, behind the end, nothing to say.
    logits = np.log([[[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0.25, 0.15, 0.15, 0.15, 0.15, 0.15],
                      [0.01, 0.19, 0.2, 0.2, 0.2, 0.2]]]).astype(np.float32)  # fmt: skip
    got = ctc(logits, tf.constant([2]), targets([]), tf.ones([1, 1]))
    assert float(got) == pytest.approx(np.log(8), rel=1e-6)


def test_ctc_counts_an_empty_transcript_as_one_token():
    logits, steps = draw(2, 4, 6), [4, 3]
    weights = tf.constant([[1.0], [0.5]])
    got = ctc(logits, tf.constant(steps), targets([A, B], []), weights)
    spoken, silent = brute_force_ctc(logits[0], 4, [A, B]), brute_force_ctc(logits[1], 3, [])
    assert float(got) == pytest.approx((spoken + 0.5 * silent) / (2 + 0.5), rel=1e-4)


def test_ctc_gradient():
    logits, steps = draw(2, 4, 6), tf.constant([4, 2])
    token_ids = targets([A, B], [], [B], [A, B], hypotheses=2)
    weights = np.array([[0.7, 0.3], [1.0, 0.5]], np.float32)
    gradient = assert_gradient_by_differences(
        lambda x: ctc(x, steps, token_ids, weights),
        logits,
        np.ndindex(logits.shape),
        step=1e-2,
        atol=5e-4,
    )
    assert not gradient[1, 2:].any(), "padding learns"


@pytest.mark.parametrize(
    ("steps", "labels"),
    [(2, [A, B, A]), (2, [A, A]), (0, [A]), (0, []), (4, [A, A, B, B])],
)
def test_a_row_without_an_alignment_weighs_nothing(steps, labels):
    logits = draw(2, 4, 6)
    possible = [A, B]
    alone = ctc(logits[:1], tf.constant([4]), targets(possible), tf.ones([1, 1]))
    both = targets(possible, labels)

    def loss(x):
        return ctc(x, tf.constant([4, steps]), both, tf.constant([[1.0], [5.0]]))

    assert float(loss(logits)) == pytest.approx(float(alone), rel=1e-6)
    gradient = gradient_of(loss, logits)
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()
    assert np.abs(gradient[0]).max() > 1e-3


def ctc_of_each(logits, lengths, ids, weights):
    """The same loss from TensorFlow's own, of one hypothesis after the other."""
    total = tokens = 0.0
    for b, k in np.ndindex(weights.shape):
        labels = [int(token) for token in ids[b, k] if token not in (PAD_ID, EOS_ID)]
        if labels:
            loss = tf.nn.ctc_loss(
                labels=tf.constant([labels]),
                logits=logits[b : b + 1, : lengths[b]],
                label_length=[len(labels)],
                logit_length=[lengths[b]],
                logits_time_major=False,
                blank_index=PAD_ID,
            )[0]
        else:
            loss = -tf.reduce_sum(tf.nn.log_softmax(logits[b, : lengths[b]])[:, PAD_ID])
        total += weights[b, k] * loss
        tokens += weights[b, k] * max(1, len(labels))
    return total / tokens


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_ctc_of_k_hypotheses_is_that_of_k_separate_losses(scale, compiled):
    rng = np.random.default_rng(0)
    logits = draw(4, 24, VOCAB_SIZE) * scale
    ids = random_token_ids(rng, 4, 3, longest=8)
    ids[2, 1] = [EOS_ID, *[PAD_ID] * (ids.shape[2] - 1)]  # nothing is said
    lengths, weights = np.array([24, 20, 17, 16]), rng.random((4, 3)).astype(np.float32)
    loss = tf.function(
        lambda x: ctc(x, tf.constant(lengths, tf.int32), tf.constant(ids), weights),
        jit_compile=compiled,
    )

    def each(x):
        return ctc_of_each(x, lengths, ids, weights)

    assert float(loss(tf.constant(logits))) == pytest.approx(float(each(logits)), rel=1e-5)
    np.testing.assert_allclose(gradient_of(loss, logits), gradient_of(each, logits), atol=1e-5)


def test_ctc_compiles_with_rows_that_cannot_be_aligned():
    logits, rng = draw(4, 12, VOCAB_SIZE), np.random.default_rng(0)
    ids = random_token_ids(rng, 4, 2)
    ids[2, 1] = [EOS_ID, *[PAD_ID] * (ids.shape[2] - 1)]  # nothing is said
    lengths, weights = tf.constant([12, 10, 5, 1]), tf.constant(rng.random((4, 2)), tf.float32)

    def loss(values):
        return ctc(values, lengths, ids, weights)

    def compiled(values):
        return tf.function(loss, jit_compile=True)(values)

    assert float(compiled(tf.constant(logits))) == pytest.approx(float(loss(logits)), rel=1e-5)
    np.testing.assert_allclose(gradient_of(compiled, logits), gradient_of(loss, logits), atol=1e-5)


def test_ctc_where_no_row_has_an_alignment_is_zero():
    logits = draw(2, 3, 6)

    def loss(x):
        return ctc(x, tf.constant([1, 0]), targets([A, B], [A]), tf.ones([2, 1]))

    assert float(loss(logits)) == 0.0
    assert not gradient_of(loss, logits).any()


def test_ctc_of_empty_places_of_the_k_best():
    """A hypothesis that is all padding has weight zero and no labels."""
    logits, token_ids = draw(1, 4, 6), targets([A, B], [A], hypotheses=2)
    expected = ctc(logits, tf.constant([4]), token_ids[:, :1], tf.ones([1, 1]))
    token_ids[0, 1] = PAD_ID
    got = ctc(logits, tf.constant([4]), token_ids, tf.constant([[1.0, 0.0]]))
    assert float(got) == pytest.approx(float(expected), rel=1e-6)


def test_losses_in_a_graph_with_unknown_shapes():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, VOCAB_SIZE]),
            tf.TensorSpec([None, None, VOCAB_SIZE]),
            tf.TensorSpec([None, None, None], tf.int32),
            tf.TensorSpec([None, None]),
        ]
    )
    def both(logits, ctc_logits, token_ids, weights):
        lengths = tf.fill([tf.shape(ctc_logits)[0]], tf.shape(ctc_logits)[1])
        return (
            sequence_cross_entropy(logits, token_ids, weights, 0.1),
            ctc(ctc_logits, lengths, token_ids, weights),
        )

    for batch, hypotheses in ((1, 1), (3, 2)):
        token_ids = random_token_ids(np.random.default_rng(0), batch, hypotheses)
        logits = as_a_recogniser_gives(draw(*token_ids.shape, VOCAB_SIZE))
        ctc_logits, weights = draw(batch, 9, VOCAB_SIZE), np.ones((batch, hypotheses), np.float32)
        got = both(logits, ctc_logits, token_ids, weights)
        expected = sequence_cross_entropy(logits, token_ids, weights, 0.1)
        assert float(got[0]) == pytest.approx(float(expected), rel=1e-5)
        expected = ctc(ctc_logits, tf.fill([batch], 9), token_ids, weights)
        assert float(got[1]) == pytest.approx(float(expected), rel=1e-5)


def test_the_factor_of_an_example_counts_whatever_the_others_in_its_batch_have():
    """Batches hold audio of one length, so often of one store: a mean would cancel its factor."""
    logits, ctc_logits = draw(3, 1, 4, 8), draw(3, 9, 8)
    token_ids = np.array([[[A, B, A, EOS_ID]], [[B, EOS_ID, 0, 0]], [[A, A, EOS_ID, 0]]], np.int32)
    weights, steps = np.ones([3, 1], np.float32), np.array([9, 9, 9], np.int32)
    for loss in (
        lambda rows, factors=None: sequence_cross_entropy(
            logits[rows], token_ids[rows], weights[rows], factors=factors
        ),
        lambda rows, factors=None: ctc(
            ctc_logits[rows], tf.constant(steps[rows]), token_ids[rows], weights[rows], factors
        ),
    ):
        everything = slice(None)
        np.testing.assert_allclose(
            loss(everything, tf.fill([3], 0.25)), 0.25 * loss(everything), rtol=1e-6
        )
        # With one example of factor 2, the loss is the sum of parts over all tokens alike.
        rest = loss(everything, tf.constant([0.0, 1.0, 1.0]))
        first = loss(everything, tf.constant([1.0, 0.0, 0.0]))
        np.testing.assert_allclose(
            loss(everything, tf.constant([2.0, 1.0, 1.0])), 2 * first + rest, rtol=1e-6
        )
        np.testing.assert_allclose(first + rest, loss(everything), rtol=1e-6)
