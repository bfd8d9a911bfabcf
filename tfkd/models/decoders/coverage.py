"""Computes coverage and peak of a decoder's attention, which the search reads."""

from __future__ import annotations

import tensorflow as tf

from tfkd.beam_search import Readout
from tfkd.layers.static_shape import dimensions

# Smaller sums of attention count as this in the coverage penalty, which takes their logarithm.
_LEAST_ATTENTION = 1e-4


def coverage_readout(
    attention_sum: tf.Tensor, peak_frame: tf.Tensor, encoded_lengths: tf.Tensor
) -> Readout:
    """Computes the coverage of N = B * K hypotheses from their attention.

    Args:
      attention_sum: [N, S], the sum of the alignments of all steps so far.
      peak_frame: [N] int32, the encoding that the last step attended to most.
      encoded_lengths: [B] int32.
    Returns:
      The peak, the share of the encodings that received attention, and the logarithm of the
      coverage penalty, which the graph computes only if the search uses it.
    References:
      Wu et al. 2016, arXiv:1609.08144, eq. 15 (penalty); See et al. 2017, arXiv:1704.04368, eq. 10.
    """
    batch, steps = dimensions(encoded_lengths)[0], dimensions(attention_sum)[1]
    attended = tf.reshape(tf.minimum(attention_sum, 1.0), [batch, -1, steps])
    lengths = tf.expand_dims(tf.cast(tf.maximum(encoded_lengths, 1), tf.float32), 1)
    covered = tf.reduce_sum(attended, -1) / lengths
    is_encoding = tf.range(steps) < tf.reshape(encoded_lengths, [-1, 1, 1])
    log_attended = tf.math.log(tf.maximum(attended, _LEAST_ATTENTION))
    log_coverage = tf.reduce_sum(tf.where(is_encoding, log_attended, 0.0), -1)
    return Readout(peak_frame, tf.reshape(covered, [-1]), tf.reshape(log_coverage, [-1]))
