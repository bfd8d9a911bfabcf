"""Losses over weighted target sequences.

With several replicas, each returns the contribution of its rows; the contributions add up to the
loss of the global batch.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.layers.replicas import share_of_mean
from tfkd.objectives.ctc_loss import ctc_losses
from tfkd.text import EOS_ID, PAD_ID

# Recognisers mask tokens that they never emit, such as pad, with logits below this.
_NEVER_EMITTED = -1e8


class SoftTargets(NamedTuple):
    """The teacher's distributions over its M most probable tokens of each step.

    A step whose probabilities are all zero has none; it is learned from its token id instead.
    """

    token_ids: tf.Tensor  # [B, K, U, M] int32
    probs: tf.Tensor  # [B, K, U, M] float32, which sum to one


def sequence_cross_entropy(
    logits: tf.Tensor,
    token_ids: tf.Tensor,
    weights: tf.Tensor,
    label_smoothing: float = 0.0,
    soft: SoftTargets | None = None,
    temperature: float = 1.0,
    factors: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the cross-entropy of weighted target sequences, per token, in nats.

    With one sequence of weight one this is ordinary cross-entropy; with the teacher's k best it is
    sequence-level knowledge distillation.

    Args:
      logits: [B, K, U, V] float32.
      token_ids: [B, K, U] int32, padded with pad.
      weights: [B, K] float32, of each sequence; zero where a place is empty.
      label_smoothing: share of the target that is spread evenly over the tokens that can be
        emitted; soft targets are not smoothed.
      soft: distributions that replace the token ids as targets, at the steps that have one.
      temperature: of soft targets.
      factors: [B] float32, of the loss of each example; they are no part of the divisor, so that an
        example counts as much among others of its factor as among those of another.
    Returns:
      Float32 scalar: the weighted sum over tokens, divided by the sum of their weights.
    References:
      Kim and Rush 2016, arXiv:1606.07947, eq. 8; Mun'im et al. 2019, arXiv:1811.04531, eq. 8.
    """
    per_token = tf.nn.sparse_softmax_cross_entropy_with_logits(token_ids, logits)
    if label_smoothing:
        can_be_emitted = tf.cast(logits > _NEVER_EMITTED, logits.dtype)
        evenly = can_be_emitted / tf.reduce_sum(can_be_emitted, -1, keepdims=True)
        spread = tf.nn.softmax_cross_entropy_with_logits(evenly, logits)
        per_token = (1.0 - label_smoothing) * per_token + label_smoothing * spread
    if soft is not None:
        is_soft = tf.reduce_any(soft.probs > 0, -1)
        per_token = tf.where(is_soft, soft_cross_entropy(logits, soft, temperature), per_token)
    is_token = tf.cast(tf.not_equal(token_ids, PAD_ID), logits.dtype)
    token_weights = is_token * tf.expand_dims(weights, -1)
    if factors is not None:
        per_token *= tf.reshape(factors, [-1, 1, 1])
    return share_of_mean(tf.reduce_sum(per_token * token_weights), tf.reduce_sum(token_weights))


def soft_cross_entropy(logits: tf.Tensor, soft: SoftTargets, temperature: float = 1.0) -> tf.Tensor:
    """Computes the cross-entropy [B, K, U] with the teacher's distributions.

    With p the teacher's probabilities and q = softmax(logits / T), it is -T^2 sum(p log q). The
    factor T^2 keeps the size of the gradient at every temperature T.

    References:
      Kim and Rush 2016, arXiv:1606.07947, section 3.1, L_WORD-KD; Hinton et al. 2015,
      arXiv:1503.02531, section 2.
    """
    log_probs = tf.gather(
        tf.nn.log_softmax(logits / temperature), soft.token_ids, axis=3, batch_dims=3
    )
    return -(temperature**2) * tf.reduce_sum(soft.probs * log_probs, -1)


def ctc(
    ctc_logits: tf.Tensor,
    encoded_lengths: tf.Tensor,
    token_ids: tf.Tensor,
    weights: tf.Tensor,
    factors: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the CTC loss of weighted target sequences, per token, in nats; pad is the blank.

    A sequence without labels is aligned to blanks alone and counts as one token. A sequence that
    has no alignment, because it needs more encodings than there are, counts as zero.

    Args:
      ctc_logits: [B, S, V] float32.
      encoded_lengths: [B] int32.
      token_ids: [B, K, U] int32, ending with eos, which CTC ignores, and padded with pad.
      weights: [B, K] float32.
      factors: [B] float32, as of `sequence_cross_entropy`.
    Returns:
      Float32 scalar: the weighted sum over sequences, divided by the weighted number of tokens.
    References:
      Graves et al. 2006, "Connectionist temporal classification".
      Kim et al. 2017, arXiv:1609.06773, eq. 9 (joint with attention).
    """
    labels = tf.where(tf.equal(token_ids, EOS_ID), PAD_ID, token_ids)
    lengths = tf.math.count_nonzero(labels, -1, dtype=tf.int32)
    steps = tf.expand_dims(encoded_lengths, 1)
    # An alignment needs a blank between equal neighbours.
    repeats = tf.equal(labels[..., 1:], labels[..., :-1]) & tf.not_equal(labels[..., 1:], PAD_ID)
    needed = lengths + tf.math.count_nonzero(repeats, -1, dtype=tf.int32)
    is_possible = (needed <= steps) & (steps > 0)
    # A sequence without an alignment gives way to one that has: that of blanks alone.
    labels = tf.where(tf.expand_dims(is_possible, -1), labels, PAD_ID)
    losses = ctc_losses(tf.nn.log_softmax(ctc_logits), tf.maximum(encoded_lengths, 1), labels)
    weights *= tf.cast(is_possible, weights.dtype)
    total = tf.reduce_sum(weights * tf.cast(tf.maximum(lengths, 1), weights.dtype))
    if factors is not None:
        losses *= tf.expand_dims(factors, -1)
    return share_of_mean(tf.reduce_sum(losses * weights), total)
