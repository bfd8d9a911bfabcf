"""Computes CTC prefix scores, so that the search ranks by attention and CTC together.

The attention decoder may skip or repeat parts of the audio; CTC, whose alignments are monotonic,
gives such hypotheses a low score. All values are exact natural logarithms. Frames beyond an
utterance's end are blanks with probability 1, which changes no probability.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search import Scorer
from tfkd.text import EOS_ID, PAD_ID, SOS_ID

# Logarithm of zero; finite, so that differences of impossible values are not NaN.
_LOG_ZERO = -1e10
# The lowest log-probability of a token. It is finite, so that a hypothesis without any alignment is
# ranked last but kept: an utterance that CTC cannot align still gets the result of attention.
LEAST_LOG_PROB = -1e4


class CtcState(NamedTuple):
    """Forward variables of each hypothesis: log-probabilities of its alignments to t frames."""

    ends_in_token: tf.Tensor  # [N, S + 1]: alignments whose last frame is the last token
    ends_in_blank: tf.Tensor  # [N, S + 1]: alignments whose last frame is a blank
    last: tf.Tensor  # [N] int32: the last token; sos before the first
    frame: tf.Tensor  # [N] int32: where the last token most likely starts


def ctc_prefix_scorer(
    ctc_logits: tf.Tensor, encoded_lengths: tf.Tensor, weight: float | tf.Tensor
) -> Scorer:
    """Makes a scorer that adds the CTC head to a beam search.

    The scorer's log-probabilities of a token c after the prefix h are log psi(h c) - log psi(h),
    where psi(h) is the probability that CTC's output begins with h; that of eos is
    log P(h) - log psi(h), where P(h) is the probability that the output is h. Over a finished
    hypothesis they add up to its CTC log-probability.

    Args:
      ctc_logits: [B, S, V] float32; class 0 (pad) is the blank. They are not copied per hypothesis.
      encoded_lengths: [B] int32.
      weight: lambda / (1 - lambda) in the notation of the references, where attention has the
        weight 1 - lambda.
    References:
      Hori et al. 2017, arXiv:1706.02737, section 2.3; Watanabe et al. 2017, "Hybrid CTC/attention
      architecture for end-to-end speech recognition", algorithm 2.
    """
    log_probs = frame_log_probs(ctc_logits, encoded_lengths)
    return Scorer(
        weight,
        empty_prefix(log_probs),
        lambda token_ids, state: next_log_probs(token_ids, state, log_probs),
    )


def next_log_probs(
    token_ids: tf.Tensor, state: CtcState, log_probs: tf.Tensor
) -> tuple[tf.Tensor, CtcState]:
    """Appends a token to each prefix and scores every token that may follow.

    Args:
      token_ids: [N] int32, the tokens to append; sos appends nothing.
      state: of the prefixes.
      log_probs: [B, S, V], see `frame_log_probs`; N is a multiple of B.
    Returns:
      log psi(h c) - log psi(h) for each token c, [N, V], see `ctc_prefix_scorer`; and the state of
      the new prefixes h.
    """
    prefix_log_prob, state = _read(token_ids, state, log_probs)
    extended = _extended(state, log_probs)
    complete = _log_add(state.ends_in_token[:, -1], state.ends_in_blank[:, -1])
    ids = tf.range(log_probs.shape[-1])
    totals = tf.where(tf.equal(ids, EOS_ID), tf.expand_dims(complete, 1), extended)
    conditional = totals - tf.expand_dims(prefix_log_prob, 1)
    never = tf.equal(ids, PAD_ID) | tf.equal(ids, SOS_ID)
    # Without any alignment, the difference of two log-zeros would be log 1.
    impossible = never | (totals < _LOG_ZERO / 2)
    bounded = tf.clip_by_value(conditional, LEAST_LOG_PROB, 0.0)
    return tf.where(impossible, LEAST_LOG_PROB, bounded), state


def frame_log_probs(ctc_logits: tf.Tensor, encoded_lengths: tf.Tensor) -> tf.Tensor:
    """Computes log-probabilities [B, S, V], with blanks alone beyond encoded_lengths [B]."""
    return _certain_blanks_beyond(encoded_lengths, tf.nn.log_softmax(ctc_logits))


def _certain_blanks_beyond(lengths: tf.Tensor, log_probs: tf.Tensor) -> tf.Tensor:
    frames, vocabulary = tf.shape(log_probs)[1], log_probs.shape[-1]
    inside = tf.expand_dims(tf.sequence_mask(lengths, frames), -1)
    blank = tf.where(tf.equal(tf.range(vocabulary), PAD_ID), 0.0, _LOG_ZERO)
    return tf.where(inside, log_probs, blank)


def empty_prefix(log_probs: tf.Tensor) -> CtcState:
    """Makes the state of the empty prefix, [B, ...], which is aligned to blanks alone."""
    blanks = tf.cumsum(log_probs[:, :, PAD_ID], 1)
    none_yet = tf.zeros_like(blanks[:, :1])
    ends_in_blank = tf.concat([none_yet, blanks], 1)
    return CtcState(
        ends_in_token=tf.fill(tf.shape(ends_in_blank), _LOG_ZERO),
        ends_in_blank=ends_in_blank,
        last=tf.fill(tf.shape(none_yet)[:1], SOS_ID),
        frame=tf.zeros(tf.shape(none_yet)[:1], tf.int32),
    )


def _read(
    token_ids: tf.Tensor, state: CtcState, log_probs: tf.Tensor
) -> tuple[tf.Tensor, CtcState]:
    """Appends token_ids [N] to the prefixes; sos, the first, appends nothing.

    Returns:
      log psi of the new prefix [N], and its state.
    """
    batch, frames = tf.shape(log_probs)[0], tf.shape(log_probs)[1]
    shape = tf.stack([tf.shape(token_ids)[0], frames])
    of_token = tf.gather(
        tf.transpose(log_probs, [0, 2, 1]), tf.reshape(token_ids, [batch, -1]), batch_dims=1
    )
    of_token = tf.reshape(of_token, shape)
    hypotheses = tf.shape(token_ids)[0] // batch
    of_blank = tf.reshape(tf.repeat(log_probs[:, :, PAD_ID], hypotheses, 0), shape)
    repeats = tf.expand_dims(tf.equal(token_ids, state.last), 1)
    # Two equal tokens need a blank between them; without it CTC reads a single token.
    before = _log_add(state.ends_in_blank, tf.where(repeats, _LOG_ZERO, state.ends_in_token))
    starts = before[:, :-1] + of_token
    forward = _forward_by_doubling if log_probs.shape[0] == 1 else _forward
    ends_in_token, ends_in_blank = forward(starts, of_token, of_blank)
    is_start = tf.equal(token_ids, SOS_ID)
    kept = tf.expand_dims(is_start, 1)
    state = CtcState(
        tf.where(kept, state.ends_in_token, ends_in_token),
        tf.where(kept, state.ends_in_blank, ends_in_blank),
        token_ids,
        tf.where(is_start, 0, tf.argmax(starts, 1, tf.int32)),
    )
    return tf.where(is_start, 0.0, tf.reduce_logsumexp(starts, 1)), state


def _forward(
    starts: tf.Tensor, of_token: tf.Tensor, of_blank: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes forward variables [N, S + 1].

    Args:
      starts: [N, S], the log-probability that the last token begins at each frame.
      of_token, of_blank: [N, S], the log-probabilities of the last token and of the blank.
    """
    none_yet = tf.fill(tf.shape(starts[:, 0]), _LOG_ZERO)

    def advance(
        before: tuple[tf.Tensor, tf.Tensor], frame: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ends_in_token, ends_in_blank = before
        start, token, blank = frame
        return (
            _log_add(start, ends_in_token + token),
            _log_add(ends_in_token, ends_in_blank) + blank,
        )

    frames = tuple(tf.transpose(x) for x in (starts, of_token, of_blank))
    results = tf.scan(advance, frames, (none_yet, none_yet))
    column = tf.expand_dims(none_yet, 1)
    token, blank = (tf.concat([column, tf.transpose(x)], 1) for x in results)
    return token, blank


def _forward_by_doubling(
    starts: tf.Tensor, of_token: tf.Tensor, of_blank: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the same as `_forward` in log2(S) iterations, which is faster for few rows."""
    none_yet = tf.fill(tf.shape(starts[:, :1]), _LOG_ZERO)
    token = _linear_recurrence(starts, of_token)
    before = tf.concat([none_yet, token[:, :-1]], 1)
    blank = _linear_recurrence(before + of_blank, of_blank)
    return tf.concat([none_yet, token], 1), tf.concat([none_yet, blank], 1)


def _linear_recurrence(added: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Solves x(t) = added(t) + factor(t) x(t - 1), x(-1) = 0, for x [N, S]; all are logarithms.

    Each iteration doubles the number of earlier frames that a frame has accumulated, so S frames
    take log2(S) iterations (Hillis and Steele 1986). No small number is computed as the difference
    of two large ones.
    """
    place = tf.range(tf.shape(added)[1])

    def turn(reach: tf.Tensor, x: tf.Tensor, factor: tf.Tensor):
        earlier = tf.maximum(place - reach, 0)
        is_there = place >= reach
        x_earlier = tf.where(is_there, tf.gather(x, earlier, axis=1), _LOG_ZERO)
        factor_earlier = tf.where(is_there, tf.gather(factor, earlier, axis=1), 0.0)
        return 2 * reach, _log_add(x, x_earlier + factor), factor + factor_earlier

    loop = (tf.constant(1), added, factor)
    return tf.while_loop(lambda reach, *_: reach < tf.shape(added)[1], turn, loop)[1]


def _extended(state: CtcState, log_probs: tf.Tensor) -> tf.Tensor:
    """Computes log psi [N, V] of each prefix with one more token, summed over its first frame."""
    batch, frames = tf.shape(log_probs)[0], tf.shape(log_probs)[1]
    vocabulary = log_probs.shape[-1]

    def sum_over_starts(before: tf.Tensor, log_probs: tf.Tensor) -> tf.Tensor:
        by_utterance = tf.reshape(before, [batch, -1, frames, 1])
        return tf.reduce_logsumexp(by_utterance + tf.expand_dims(log_probs, 1), 2)

    before = _log_add(state.ends_in_token, state.ends_in_blank)[:, :-1]
    others = tf.reshape(sum_over_starts(before, log_probs), [-1, vocabulary])
    own = tf.gather(
        tf.transpose(log_probs, [0, 2, 1]), tf.reshape(state.last, [batch, -1]), batch_dims=1
    )
    own = tf.reshape(own, [-1, frames])
    again = tf.reduce_logsumexp(state.ends_in_blank[:, :-1] + own, 1, keepdims=True)
    is_last = tf.equal(tf.range(vocabulary), tf.expand_dims(state.last, 1))
    return tf.where(is_last, again, others)


def _log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Computes log(exp(first) + exp(second))."""
    return tf.maximum(first, second) + tf.math.log1p(tf.exp(-tf.abs(first - second)))
