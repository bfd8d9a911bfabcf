"""Masks the tokens that a model never emits."""

from __future__ import annotations

import tensorflow as tf

from tfkd.text import EOS_ID, FIRST_PIECE_ID

# Added to the logits of tokens that are never emitted (pad, unk, sos).
_NEVER = -1e9


def emission_bias(vocab_size: int) -> tf.Tensor:
    """Makes a bias [V] of logits: zero for tokens that may be emitted, -1e9 for pad, unk, sos."""
    ids = tf.range(vocab_size)
    return tf.where((ids >= FIRST_PIECE_ID) | tf.equal(ids, EOS_ID), 0.0, _NEVER)
