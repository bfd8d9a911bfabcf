"""Scores of hypotheses: which sums of log-probabilities are possible, and how they are ranked."""

from __future__ import annotations

import tensorflow as tf

from tfkd.config import SearchControls

# Finite, because TFLite turns a constant infinity into the lowest float, which no longer equals
# what the kernels compute. Sums and quotients of impossible values stay below the threshold.
IMPOSSIBLE = -1e30
_LEAST_POSSIBLE = -1e8


def is_possible(total: tf.Tensor) -> tf.Tensor:
    """Whether a sum of log-probabilities holds no impossible one."""
    return total > _LEAST_POSSIBLE


def usable(log_probs: tf.Tensor) -> tf.Tensor:
    """The log-probabilities, impossible where they are not finite."""
    is_finite = tf.abs(log_probs) < -_LEAST_POSSIBLE  # false for NaN
    return tf.where(is_finite, log_probs, IMPOSSIBLE)


def tempered(log_probs: tf.Tensor, temperature: float) -> tf.Tensor:
    """Log-probabilities [N, V] of the distribution whose logits are divided by `temperature`."""
    if temperature == 1:
        return log_probs
    # Normalising would make tokens possible again where every one is impossible.
    return tf.where(is_possible(log_probs), tf.nn.log_softmax(log_probs / temperature), IMPOSSIBLE)


def length_penalty(num_tokens: tf.Tensor | int, alpha: float) -> tf.Tensor:
    """Divisor of a log-probability; Wu et al. 2016, arXiv:1609.08144, eq. 14."""
    return tf.pow((5.0 + tf.cast(num_tokens, tf.float32)) / 6.0, alpha)


def score_of(
    total: tf.Tensor,
    num_tokens: tf.Tensor | int,
    controls: SearchControls,
    log_coverage: tf.Tensor | None = None,
) -> tf.Tensor:
    """Ranking value of hypotheses of the same shape: longer is never worse at an equal total.

    Without log_coverage, which is not positive, it is the greatest score that is in reach.
    """
    score = total
    if controls.normalisation == "mean":
        score /= tf.cast(num_tokens, tf.float32)
    elif controls.length_penalty:
        score /= length_penalty(num_tokens, controls.length_penalty)
    if log_coverage is not None:
        score += controls.coverage_penalty * log_coverage
    return tf.where(is_possible(total), score, IMPOSSIBLE)
