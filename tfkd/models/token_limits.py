"""How many tokens audio of a length may have."""

from __future__ import annotations

import tensorflow as tf


def token_limits(
    num_samples: tf.Tensor, sample_rate_hz: int, max_tokens_per_second: float | None
) -> tf.Tensor | None:
    """Limits [B] int32 of utterances of num_samples [B], rounded up; None where there are none."""
    if max_tokens_per_second is None:
        return None
    limits = tf.cast(num_samples, tf.float32) / sample_rate_hz * max_tokens_per_second
    # Optimised graphs multiply by a rounded 1 / 16000: a whole number must not become the next.
    return tf.cast(tf.math.ceil(limits - 1e-3), tf.int32)
