"""What cannot be speech: a recogniser says nothing of it, in Keras as in every export."""

from __future__ import annotations

import tensorflow as tf

from tfkd.beam_search import BeamResult
from tfkd.beam_search.ranking import IMPOSSIBLE

# No word is shorter.
_LEAST_SECONDS = 0.05
# Waveforms lie in [-1, 1]. Samples that nobody scaled from 16 bits exceed the first; what stays
# below the second is silence to 16 bits, but for one unit of dither.
_LOUDEST = 8.0
_QUIETEST = 2 / 32768


def is_audible(waveform: tf.Tensor, num_samples: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Whether each utterance of waveform [B, N] may hold speech, [B] bool.

    NaN, infinite and unscaled samples, digital silence and less than 50 ms do not; what lies beyond
    num_samples [B] does not count.
    """
    size = tf.abs(waveform)
    beyond = tf.logical_not(tf.sequence_mask(num_samples, tf.shape(waveform)[1]))
    # False for NaN, which a maximum may pass over.
    is_sane = tf.reduce_all((size <= _LOUDEST) | beyond, 1)
    is_heard = tf.reduce_any((size >= _QUIETEST) & tf.logical_not(beyond), 1)
    is_long = num_samples >= round(_LEAST_SECONDS * sample_rate_hz)
    return is_sane & is_heard & is_long


def without_inaudible(result: BeamResult, audible: tf.Tensor, pad_id: int) -> BeamResult:
    """The result without the hypotheses of utterances that are not audible [B]."""
    nothing = BeamResult(
        token_ids=pad_id,
        num_tokens=0,
        log_prob=IMPOSSIBLE,
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
