"""CTC prefix scores are exact: every alignment is enumerated, on utterances of several lengths."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from helpers import random_batch, tiny_model

from tfkd.beam_search import beam_search
from tfkd.config import SearchControls
from tfkd.models.decoders.ctc_prefix import _forward, _forward_by_doubling, ctc_prefix_scorer
from tfkd.objectives.losses import ctc
from tfkd.text import EOS_ID, PAD_ID, SOS_ID

A, B = 4, 5
VOCAB_SIZE = 6
LENGTHS = (4, 1, 3)
NEVER = -1e4


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """[3, 4, 6]: three utterances whose CTC says a, b or blank, and noise beyond their ends."""
    values = np.random.default_rng(0).normal(size=(3, 4, VOCAB_SIZE)).astype(np.float32) * 2
    values[:, :, PAD_ID + 1 : A] = -1e9  # unk, sos and eos
    return values


def log_sum(values) -> float:
    """log of the sum of exponentials along the last axis."""
    return np.logaddexp.reduce(np.asarray(values, np.float64), axis=-1)


def outputs(logits: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-probability of every output of one utterance [S, V], by summing its alignments."""
    log_probs = logits - log_sum(logits)[:, None]
    found: dict[tuple[int, ...], list[float]] = {}
    for alignment in itertools.product([PAD_ID, A, B], repeat=len(logits)):
        collapsed = tuple(token for token, _ in itertools.groupby(alignment) if token != PAD_ID)
        found.setdefault(collapsed, []).append(
            sum(frame[token] for frame, token in zip(log_probs, alignment, strict=True))
        )
    return {output: log_sum(each) for output, each in found.items()}


def prefix_log_prob(by_output: dict[tuple[int, ...], float], prefix: tuple[int, ...]) -> float:
    those = [value for output, value in by_output.items() if output[: len(prefix)] == prefix]
    return log_sum(those) if those else -np.inf


def read(scorer, prefixes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Log-probs [N, V] after sos and after each further token of equally long prefixes [N]."""
    state, said = scorer.initial_state, []
    for tokens in zip(*[(SOS_ID, *prefix) for prefix in prefixes], strict=True):
        log_probs, state = scorer.step_fn(tf.constant(tokens), state)
        said.append(log_probs.numpy())
    return said


@pytest.mark.parametrize(
    "prefix", [p for n in range(4) for p in itertools.product([A, B], repeat=n)]
)
def test_prefix_and_whole_output_equal_the_sum_over_alignments(logits, prefix):
    scorer = ctc_prefix_scorer(tf.constant(logits), tf.constant(LENGTHS), 1.0)
    *_, found = read(scorer, [prefix] * 3)
    for row, length in enumerate(LENGTHS):
        by_output = outputs(logits[row, :length])
        before = prefix_log_prob(by_output, prefix)
        expected = {EOS_ID: by_output.get(prefix, -np.inf)}
        expected |= {token: prefix_log_prob(by_output, (*prefix, token)) for token in (A, B)}
        for token, log_prob in expected.items():
            conditional = log_prob - before if np.isfinite(log_prob) else NEVER
            np.testing.assert_allclose(found[row, token], conditional, atol=1e-5)
        assert found[row, PAD_ID] == found[row, SOS_ID] == NEVER
        if np.isfinite(before):
            np.testing.assert_allclose(log_sum(found[row]), 0.0, atol=1e-5)


def test_the_sum_over_a_hypothesis_is_what_the_loss_says():
    """At lengths that no enumeration reaches, through repeated tokens."""
    rng = np.random.default_rng(1)
    logits = tf.constant(rng.normal(size=(1, 60, VOCAB_SIZE)) * 3, tf.float32)
    hypothesis = (A, A, B, A, B, B, B, A)
    scorer = ctc_prefix_scorer(logits, tf.constant([57]), 1.0)
    said = read(scorer, [hypothesis])
    total = sum(s[0, t] for s, t in zip(said, (*hypothesis, EOS_ID), strict=True))
    targets = tf.constant([[[*hypothesis, EOS_ID]]])
    loss = ctc(logits, tf.constant([57]), targets, tf.ones([1, 1]))
    np.testing.assert_allclose(total, -len(hypothesis) * loss, rtol=1e-5)


def test_hypotheses_of_one_utterance_do_not_disturb_each_other(logits):
    lengths = tf.constant(LENGTHS)
    prefixes = [(A, A), (A, B), (B, A), (B, B)]
    scorer = ctc_prefix_scorer(tf.constant(logits), lengths, 1.0)
    together = scorer._replace(
        initial_state=tf.nest.map_structure(lambda x: tf.repeat(x, 4, 0), scorer.initial_state)
    )
    found = read(together, prefixes * 3)[-1].reshape(3, 4, VOCAB_SIZE)
    for place, prefix in enumerate(prefixes):
        alone = read(scorer, [prefix] * 3)[-1]
        np.testing.assert_allclose(found[:, place], alone, atol=1e-6)


def test_noise_beyond_the_end_and_confident_frames_change_nothing(logits):
    louder = logits.copy()
    for row, length in enumerate(LENGTHS):
        louder[row, length:] = 1e3
    found = [
        read(ctc_prefix_scorer(tf.constant(x), tf.constant(LENGTHS), 1.0), [(A, B)] * 3)
        for x in (logits, louder)
    ]
    np.testing.assert_array_equal(*found)
    sure = np.full((1, 200, VOCAB_SIZE), -100.0, np.float32)
    sure[0, :, PAD_ID] = 0
    sure[0, [3, 150], [A, B]] = 100
    said = read(ctc_prefix_scorer(tf.constant(sure), tf.constant([200]), 1.0), [(A, B)])
    assert [int(np.argmax(each[0])) for each in said] == [A, B, EOS_ID]
    assert all(np.isfinite(each).all() and each.max() == 0 for each in said)


def test_ctc_keeps_attention_from_looping():
    """Attention that would repeat itself for ever is held to what the audio has room for."""
    frames = [A, PAD_ID, B]
    logits = 8.0 * tf.one_hot([frames], VOCAB_SIZE)

    def attention(token_ids, state):
        """Prefers a after b and b after a, and hardly ever ends."""
        wanted = tf.where(tf.equal(token_ids, A), B, A)
        return tf.nn.log_softmax(tf.one_hot(wanted, VOCAB_SIZE, 3.0, 0.0)), state

    def decode(weight: float) -> list[int]:
        result = beam_search(
            attention,
            tf.zeros([1]),
            batch_size=1,
            beam_width=4,
            num_hypotheses=1,
            max_tokens=8,
            sos_id=SOS_ID,
            eos_id=EOS_ID,
            pad_id=PAD_ID,
            controls=SearchControls(length_penalty=1.0),
            scorers=[ctc_prefix_scorer(logits, tf.constant([3]), weight)] if weight else [],
        )
        return result.token_ids[0, 0, : result.num_tokens[0, 0]].numpy().tolist()

    assert len(decode(0.0)) == 8
    assert decode(0.5) == [A, B, EOS_ID]


def test_a_trained_models_head_scores_what_teacher_forcing_says():
    model, batch = tiny_model(), random_batch(hypotheses=2)
    output = model(batch.inputs())
    scorer = ctc_prefix_scorer(output.ctc_logits, output.encoded_lengths, 1.0)
    for place in range(2):
        state, total = scorer.initial_state, 0.0
        ids = batch.token_ids[:, place]
        for previous, token in zip([np.full(len(ids), SOS_ID), *ids.T[:-1]], ids.T, strict=True):
            log_probs, state = scorer.step_fn(tf.constant(previous, tf.int32), state)
            own = tf.gather(log_probs, token, batch_dims=1).numpy()
            total += np.where(token == PAD_ID, 0, own)
        assert (total > NEVER / 2).any()
        for row in range(len(ids)):
            one = slice(row, row + 1)
            loss = ctc(
                output.ctc_logits[one],
                output.encoded_lengths[one],
                tf.constant(ids[one, None]),
                tf.ones([1, 1]),
            )
            length = int((ids[row] > EOS_ID).sum())
            if length and total[row] > NEVER / 2:
                np.testing.assert_allclose(total[row], -length * loss, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 7, 64, 65])
def test_doubling_gives_what_the_scan_over_frames_gives(frames):
    rng = np.random.default_rng(frames)
    values = [tf.constant(-np.abs(rng.normal(size=(3, frames)) * 9), tf.float32) for _ in range(3)]
    values[0] = tf.where(rng.uniform(size=(3, frames)) < 0.3, -1e10, values[0])
    for got, expected in zip(_forward_by_doubling(*values), _forward(*values), strict=True):
        got, expected = got.numpy(), expected.numpy()
        np.testing.assert_array_equal(got < -1e8, expected < -1e8)
        np.testing.assert_allclose(got[got > -1e8], expected[got > -1e8], atol=1e-4)
