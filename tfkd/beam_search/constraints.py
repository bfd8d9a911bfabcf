"""Constraints on the next token; one that is off adds nothing to the graph."""

from __future__ import annotations

import tensorflow as tf

from tfkd.beam_search.ranking import IMPOSSIBLE
from tfkd.config import SearchControls


def reads_tokens(controls: SearchControls) -> bool:
    """Whether a constraint needs the tokens of the alive hypotheses."""
    return controls.no_repeat_ngram > 0


def constrained(
    ranking: tf.Tensor,
    log_probs: tf.Tensor,
    token_ids: tf.Tensor,
    step: tf.Tensor,
    num_known: tf.Tensor,
    eos_id: int,
    controls: SearchControls,
) -> tf.Tensor:
    """Makes the tokens that the controls forbid impossible.

    Args:
      ranking: [B, W, V], what each next token adds to the ranking.
      log_probs: [B, W, V], their log-probabilities under step_fn alone.
      token_ids: [B, W, U], or [B, W, 0] if no constraint reads them.
      step: number of tokens of the hypotheses that are extended.
      num_known: number of tokens of each utterance's hypotheses, a scalar or [B, 1, 1]; less than
        `step` where an utterance has reached its own limit. Later `token_ids` are padding, which
        need not be a token of the vocabulary.
    """
    if controls.min_tokens > 1:
        ranking = _without_eos(ranking, step + 1 < controls.min_tokens, eos_id)
    if controls.eos_threshold is not None:
        is_likely = _is_end_likely(log_probs, eos_id, controls.eos_threshold)
        ranking = _without_eos(ranking, tf.logical_not(is_likely), eos_id)
    # Shorter sequences cannot hold an n-gram twice.
    if 0 < controls.no_repeat_ngram < token_ids.shape[-1]:
        repeats = _repeats(token_ids, step, num_known, controls.no_repeat_ngram, ranking.shape[-1])
        ranking = tf.where(repeats, IMPOSSIBLE, ranking)
    return ranking


def _without_eos(ranking: tf.Tensor, is_forbidden: tf.Tensor, eos_id: int) -> tf.Tensor:
    """Forbids EOS where is_forbidden, a scalar or [B, W, 1]."""
    is_eos = tf.equal(tf.range(ranking.shape[-1]), eos_id)
    return tf.where(is_eos & is_forbidden, IMPOSSIBLE, ranking)


def _is_end_likely(log_probs: tf.Tensor, eos_id: int, threshold: float) -> tf.Tensor:
    """Computes log p(eos) > threshold * log p(best other token), [B, W, 1].

    References:
      Hannun et al. 2019, arXiv:1904.02619, section 2.3.
    """
    others = _without_eos(log_probs, tf.constant(True), eos_id)
    best = tf.reduce_max(others, -1, keepdims=True)
    return log_probs[:, :, eos_id : eos_id + 1] > threshold * best


def _repeats(
    token_ids: tf.Tensor, step: tf.Tensor, num_known: tf.Tensor, size: int, vocab_size: int
) -> tf.Tensor:
    """Finds the tokens [B, W, V] that would repeat an n-gram of `size` tokens."""
    places = token_ids.shape[-1] - size + 1
    is_same = tf.range(places) + size <= num_known
    for offset in range(size - 1):
        latest = tf.gather(token_ids, tf.maximum(step - size + 1 + offset, 0), axis=2)
        earlier = token_ids[:, :, offset : offset + places]
        is_same &= tf.equal(earlier, tf.expand_dims(latest, -1))
    # Scatter counts by token: comparing with the whole vocabulary, [B, W, U, V], would take longer
    # than the model. Padding counts zero at token 0, so every index is valid.
    last = tf.where(is_same, token_ids[:, :, size - 1 :], 0)
    batch, width = tf.shape(token_ids)[0], token_ids.shape[1]
    hypothesis = tf.reshape(tf.range(batch * width), [batch, width, 1])
    place = tf.reshape(hypothesis * vocab_size + last, [-1, 1])
    is_same = tf.cast(tf.reshape(tf.broadcast_to(is_same, tf.shape(last)), [-1]), tf.int32)
    count = tf.scatter_nd(place, is_same, [batch * width * vocab_size])
    return tf.reshape(count > 0, [batch, width, vocab_size])
