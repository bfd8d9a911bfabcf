"""Pads batches to fewer shapes; added rows have weight zero, so the loss stays the same."""

from __future__ import annotations

import tensorflow as tf

from tfkd.objectives import Field, Signature

Batch = dict[str, tf.Tensor]
AUDIO_FIELDS = ("waveform", "num_samples")
# Lengths are padded to powers of these, so that XLA compiles few shapes.
_SAMPLES_GROWTH, _TOKENS_GROWTH = 1.15, 1.5


def filled(batch: Batch, missing: tf.Tensor, signature: Signature) -> Batch:
    """Adds `missing` rows to a batch, which repeat the first one with weight zero.

    Utterance ids are left out, because accelerators cannot hold strings.
    """
    rows = {}
    for name in (*AUDIO_FIELDS, *signature):
        stand_in = tf.repeat(batch[name][:1], missing, 0)
        if name in signature and signature[name].is_weight:
            stand_in = tf.zeros_like(stand_in)
        rows[name] = tf.concat([batch[name], stand_in], 0)
    return rows


def in_few_shapes(
    batches: tf.data.Dataset, batch_size: int, signature: Signature
) -> tf.data.Dataset:
    """Pads batches to few different shapes, because XLA compiles the step for each shape.

    Samples and tokens are padded to the next power of a growth factor, rows to `batch_size`.
    """

    def pad(batch: Batch) -> Batch:
        batch = filled(batch, batch_size - tf.shape(batch["num_samples"])[0], signature)
        samples = _padding(tf.shape(batch["waveform"])[1], _SAMPLES_GROWTH)
        batch["waveform"] = tf.pad(batch["waveform"], [[0, 0], [0, samples]])
        for name, field in signature.items():
            tokens = _padding(_num_tokens(batch[name], field), _TOKENS_GROWTH)
            added = [[0, tokens if size is None else 0] for size in (0, *field.shape)]
            padding = tf.cast(field.padding, batch[name].dtype)
            batch[name] = tf.pad(batch[name], added, constant_values=padding)
        return batch

    return batches.map(pad)


def _num_tokens(values: tf.Tensor, field: Field) -> tf.Tensor:
    return tf.shape(values)[1 + field.shape.index(None)] if None in field.shape else 1


def _padding(length: tf.Tensor, growth: float) -> tf.Tensor:
    """The difference between a length and the next power of `growth`, rounded up."""
    exponent = tf.math.ceil(tf.math.log(tf.cast(length, tf.float64)) / tf.math.log(
        tf.constant(growth, tf.float64)
    ))  # fmt: skip
    bound = tf.cast(tf.math.ceil(tf.constant(growth, tf.float64) ** exponent), tf.int32)
    return tf.maximum(bound - length, 0)
