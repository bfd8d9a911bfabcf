"""The CTC loss of several label sequences of each utterance, which share its log-probabilities.

TensorFlow's own loss takes one sequence a row, so that k hypotheses would need k copies of what the
head computes. Here the recursions of all of them run in one loop, in operations that XLA compiles,
too, and the gradient is written by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.layers.recurrent import sequential_while_loop
from tfkd.layers.static_shape import dimensions
from tfkd.text import PAD_ID

# Stands for the logarithm of zero, because infinities would give NaN in differences.
_LOG_ZERO = -1e30


class _Lattice(NamedTuple):
    """The M = 2L + 1 states of each sequence: its labels, with a blank around each."""

    places: tf.Tensor  # [B, K, M] int32: where a frame [B * V] holds the token of each state
    skip_bias: tf.Tensor  # [B, K, M]: zero where the blank before a state may be left out
    is_first: tf.Tensor  # [M] bool: where alignments begin
    is_last: tf.Tensor  # [B, K, M] bool: where alignments end


def ctc_losses(log_probs: tf.Tensor, encoded_lengths: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Minus the log-probability of each label sequence, summed over its alignments.

    Args:
      log_probs: [B, S, V] float32, normalised, with pad as the blank.
      encoded_lengths: [B] int32, from 1 to S.
      labels: [B, K, L] int32, padded with pad.
    Returns:
      [B, K] float32; very large for sequences that have no alignment, and their gradient is not to
      be used.
    References:
      Graves et al. 2006, Connectionist Temporal Classification, eq. 5-8 and 14.
    """
    lattice = _lattice(labels, dimensions(log_probs)[2])

    @tf.custom_gradient
    def losses(log_probs: tf.Tensor):
        frames = _by_step(log_probs)
        alphas = _forward(frames, lattice)
        last = tf.gather_nd(alphas, tf.stack([encoded_lengths - 1, _rows(log_probs)], 1))
        last = tf.where(lattice.is_last, last, _LOG_ZERO)
        total = tf.reduce_logsumexp(last, -1, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            d_last = -tf.expand_dims(upstream, -1) * tf.exp(last - total)
            d_states = _backward(frames, alphas, d_last, encoded_lengths, lattice)
            return _of_tokens(d_states, lattice, log_probs)

        return -total[..., 0], gradient

    return losses(log_probs)


def _lattice(labels: tf.Tensor, vocab_size: int | tf.Tensor) -> _Lattice:
    batch, hypotheses, longest = dimensions(labels)
    blanks = tf.fill([batch, hypotheses, longest, 1], PAD_ID)
    pairs = tf.concat([blanks, tf.expand_dims(labels, -1)], -1)
    states = tf.reshape(pairs, [batch, hypotheses, 2 * longest])
    states = tf.pad(states, [[0, 0], [0, 0], [0, 1]], constant_values=PAD_ID)
    can_skip = tf.not_equal(states, PAD_ID) & tf.not_equal(states, _later(states, 2, PAD_ID))
    index = tf.range(2 * longest + 1)
    last = 2 * tf.math.count_nonzero(labels, -1, keepdims=True, dtype=tf.int32)
    return _Lattice(
        states + vocab_size * tf.reshape(tf.range(batch), [-1, 1, 1]),
        tf.where(can_skip, 0.0, _LOG_ZERO),
        index < 2,
        tf.equal(index, last) | tf.equal(index, last - 1),
    )


def _later(values: tf.Tensor, by: int, filling: float) -> tf.Tensor:
    """values [B, K, M], each `by` states later."""
    return tf.pad(values[..., :-by], [[0, 0], [0, 0], [by, 0]], constant_values=filling)


def _earlier(values: tf.Tensor, by: int) -> tf.Tensor:
    """values [B, K, M], each `by` states earlier, and zeros at the end."""
    return tf.pad(values[..., by:], [[0, 0], [0, 0], [0, by]])


def _rows(values: tf.Tensor) -> tf.Tensor:
    return tf.range(dimensions(values)[0])


def _by_step(log_probs: tf.Tensor) -> tf.Tensor:
    """log_probs [B, S, V] as [S, B * V]."""
    batch, steps, vocab_size = dimensions(log_probs)
    return tf.reshape(tf.transpose(log_probs, [1, 0, 2]), [steps, batch * vocab_size])


def _arrivals(alpha: tf.Tensor, lattice: _Lattice) -> tf.Tensor:
    """Log-probabilities [3, B, K, M] of reaching each state by staying, a step, or a skip."""
    earlier = tf.pad(alpha, [[0, 0], [0, 0], [2, 0]], constant_values=_LOG_ZERO)
    return tf.stack([alpha, earlier[..., 1:-1], earlier[..., :-2] + lattice.skip_bias])


def _forward(frames: tf.Tensor, lattice: _Lattice) -> tf.Tensor:
    """The forward variables [S, B, K, M] of frames [S, B * V]."""
    steps, _ = dimensions(frames)
    first = tf.where(lattice.is_first, tf.gather(frames[0], lattice.places), _LOG_ZERO)

    def body(t, alpha, alphas):
        arrivals = _arrivals(alpha, lattice)
        best = tf.reduce_max(arrivals, 0)
        total = tf.reduce_sum(tf.exp(arrivals - best), 0)
        alpha = best + tf.math.log(total) + tf.gather(frames[t], lattice.places)
        return t + 1, alpha, alphas.write(t, alpha)

    alphas = tf.TensorArray(first.dtype, steps, element_shape=first.shape).write(0, first)
    _, _, alphas = sequential_while_loop(lambda t, *_: t < steps, body, (1, first, alphas))
    return alphas.stack()


def _backward(
    frames: tf.Tensor,
    alphas: tf.Tensor,
    d_last: tf.Tensor,
    encoded_lengths: tf.Tensor,
    lattice: _Lattice,
) -> tf.Tensor:
    """Gradients [S, B, K, M] of the log-probabilities of states, from those of the last ones.

    A state hands its own on to those that it was reached from, by their shares in its probability.
    """
    steps = dimensions(alphas)[0]
    lengths = tf.reshape(encoded_lengths, [-1, 1, 1])

    def body(t, d_alpha, gradients):
        d_alpha += tf.where(tf.equal(t, lengths - 1), d_last, 0.0)
        gradients = gradients.write(t, d_alpha)
        before = tf.maximum(t - 1, 0)
        total = alphas[t] - tf.gather(frames[t], lattice.places)
        shares = d_alpha * tf.exp(_arrivals(alphas[before], lattice) - total)
        stayed, stepped, skipped = tf.unstack(shares)
        return t - 1, stayed + _earlier(stepped, 1) + _earlier(skipped, 2), gradients

    gradients = tf.TensorArray(d_last.dtype, steps, element_shape=d_last.shape)
    loop = (steps - 1, tf.zeros_like(d_last), gradients)
    return sequential_while_loop(lambda t, *_: t >= 0, body, loop)[-1].stack()


def _of_tokens(d_states: tf.Tensor, lattice: _Lattice, log_probs: tf.Tensor) -> tf.Tensor:
    """Sums gradients of states, [S, B, K, M], into those of log_probs [B, S, V]."""
    batch, steps, vocab_size = dimensions(log_probs)
    tokens = tf.reshape(lattice.places % vocab_size, [batch, -1])
    d_states = tf.transpose(tf.reshape(d_states, [steps, batch, -1]), [1, 0, 2])
    return tf.matmul(d_states, tf.one_hot(tokens, vocab_size, dtype=d_states.dtype))
