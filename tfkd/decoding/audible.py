"""Finds audio that cannot be speech; it has no hypothesis, in Keras as in every export."""

from __future__ import annotations

import tensorflow as tf

from tfkd.beam_search import BeamResult
from tfkd.beam_search.ranking import IMPOSSIBLE

# No word is shorter.
_MIN_SECONDS = 0.05
# Samples are counted in blocks of so many.
_BLOCK = 1024
# Waveforms lie in [-1, 1]. Larger samples are 16-bit integers that were not scaled.
_MAX_AMPLITUDE = 8.0
# Samples that differ from the first by less are digital silence in 16 bits, with at most a unit of
# dither.
_MIN_CHANGE = 3 / 32768


def is_audible(waveform: tf.Tensor, num_samples: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Tells which utterances may hold speech.

    Those with NaN, infinite or unscaled samples, less than 50 ms, or digital silence alone, with or
    without a constant offset, do not.

    Args:
      waveform: [B, N] float32.
      num_samples: [B] int32; later samples are ignored.
    Returns:
      [B] bool.
    """
    size = tf.abs(waveform)
    beyond = _beyond(num_samples, tf.shape(waveform)[1])
    # The comparison is false for NaN; a maximum might ignore it.
    is_sane = tf.reduce_all((size <= _MAX_AMPLITUDE) | beyond, 1)
    change = tf.abs(waveform - waveform[:, :1])
    is_heard = tf.reduce_any((change >= _MIN_CHANGE) & tf.logical_not(beyond), 1)
    is_long = num_samples >= round(_MIN_SECONDS * sample_rate_hz)
    return is_sane & is_heard & is_long


def _beyond(num_samples: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Tells which of `size` samples lie beyond num_samples [B]; returns [B, size] bool.

    They are counted within blocks, because a graph of a fixed length would hold the number of every
    sample as a constant of four bytes.
    """
    blocks = (size + _BLOCK - 1) // _BLOCK
    left = tf.expand_dims(num_samples, 1) - _BLOCK * tf.range(blocks)
    beyond = tf.range(_BLOCK) >= tf.expand_dims(left, 2)
    return tf.reshape(beyond, [tf.shape(num_samples)[0], blocks * _BLOCK])[:, :size]


def without_inaudible(result: BeamResult, audible: tf.Tensor, pad_id: int) -> BeamResult:
    """Removes the hypotheses of the utterances for which audible [B] is false."""
    nothing = BeamResult(
        token_ids=pad_id,
        num_tokens=0,
        log_prob=IMPOSSIBLE,
        total=IMPOSSIBLE,
        score=IMPOSSIBLE,
        token_log_probs=0.0,
        is_finished=False,
        frames=0,
        coverage=0.0,
    )

    def select(found: tf.Tensor, empty: float) -> tf.Tensor:
        flags = tf.reshape(audible, [-1] + [1] * (found.shape.rank - 1))
        return tf.where(flags, found, tf.cast(empty, found.dtype))

    return BeamResult(*map(select, result, nothing))
