"""Batches in other shapes, with the same rows: what is added weighs nothing."""

from __future__ import annotations

import tensorflow as tf

from tfkd.text import PAD_ID

# What a training step reads of a batch; names of utterances cannot go to every device.
INPUTS = ("waveform", "num_samples", "token_ids", "weights")
Batch = dict[str, tf.Tensor]
# Lengths that a compiled step is made for: powers of these.
_SAMPLES_GROWTH, _TOKENS_GROWTH = 1.15, 1.5


def filled(batch: Batch, missing: tf.Tensor) -> Batch:
    """The `INPUTS` of a batch with `missing` more rows: the first one, with weight zero."""
    stand_in = {name: tf.repeat(batch[name][:1], missing, 0) for name in INPUTS}
    stand_in["weights"] = tf.zeros_like(stand_in["weights"])
    return {name: tf.concat([batch[name], stand_in[name]], 0) for name in INPUTS}


def in_few_shapes(batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches whose shapes recur, because XLA compiles a step anew for each shape.

    Samples and tokens are padded to the next power of a growth factor, rows to `batch_size`.
    """

    def pad(batch: Batch) -> Batch:
        batch = filled(batch, batch_size - tf.shape(batch["num_samples"])[0])
        samples = _padding(tf.shape(batch["waveform"])[1], _SAMPLES_GROWTH)
        tokens = _padding(tf.shape(batch["token_ids"])[2], _TOKENS_GROWTH)
        return {
            **batch,
            "waveform": tf.pad(batch["waveform"], [[0, 0], [0, samples]]),
            "token_ids": tf.pad(
                batch["token_ids"], [[0, 0], [0, 0], [0, tokens]], constant_values=PAD_ID
            ),
        }

    return batches.map(pad)


def _padding(length: tf.Tensor, growth: float) -> tf.Tensor:
    """What is missing to the next power of `growth`, rounded up."""
    exponent = tf.math.ceil(tf.math.log(tf.cast(length, tf.float64)) / tf.math.log(
        tf.constant(growth, tf.float64)
    ))  # fmt: skip
    bound = tf.cast(tf.math.ceil(tf.constant(growth, tf.float64) ** exponent), tf.int32)
    return tf.maximum(bound - length, 0)
