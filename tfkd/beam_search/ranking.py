"""Computes the scores that rank hypotheses from sums of log-probabilities."""

from __future__ import annotations

import tensorflow as tf

from tfkd.config import SearchControls

# IMPOSSIBLE is finite, because TFLite turns a constant infinity into the lowest float, unlike what
# its kernels compute. Sums and quotients of impossible values stay below the threshold.
IMPOSSIBLE = -1e30
_MIN_POSSIBLE = -1e8


def is_possible(total: tf.Tensor) -> tf.Tensor:
    """Whether a sum of log-probabilities has no impossible term."""
    return total > _MIN_POSSIBLE


def usable(log_probs: tf.Tensor) -> tf.Tensor:
    """Casts log-probabilities to float32, and replaces those that are not finite by IMPOSSIBLE."""
    log_probs = tf.cast(log_probs, tf.float32)
    is_finite = tf.abs(log_probs) < -_MIN_POSSIBLE  # false for NaN
    return tf.where(is_finite, log_probs, IMPOSSIBLE)


def tempered(log_probs: tf.Tensor, temperature: float) -> tf.Tensor:
    """Divides log-probabilities [N, V] by `temperature` and normalises them again."""
    if temperature == 1:
        return log_probs
    # If all tokens are impossible, normalising would make them possible.
    return tf.where(is_possible(log_probs), tf.nn.log_softmax(log_probs / temperature), IMPOSSIBLE)


def length_penalty(num_tokens: tf.Tensor | int, alpha: float) -> tf.Tensor:
    """Computes the divisor of a log-probability: ((5 + num_tokens) / 6) ** alpha.

    References:
      Wu et al. 2016, arXiv:1609.08144, eq. 14.
    """
    return tf.pow((5.0 + tf.cast(num_tokens, tf.float32)) / 6.0, alpha)


def score_of(
    total: tf.Tensor,
    num_tokens: tf.Tensor | int,
    controls: SearchControls,
    log_coverage: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the scores of hypotheses, in the shape of `total`.

    At an equal total a longer hypothesis never has a lower score. Without log_coverage, which is
    not positive, the result is an upper bound.
    """
    score = total
    if controls.normalisation == "mean":
        score /= tf.cast(num_tokens, tf.float32)
    elif controls.length_penalty:
        score /= length_penalty(num_tokens, controls.length_penalty)
    if log_coverage is not None:
        score += controls.coverage_penalty * log_coverage
    return tf.where(is_possible(total), score, IMPOSSIBLE)
