"""Sizes of tensors, read with few operations: a graph pays for each in memory and tracing."""

from __future__ import annotations

import tensorflow as tf


def dimensions(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """The sizes of a tensor of known rank: numbers where they are known, else scalars."""
    shape = tf.TensorShape(tensor.shape)
    if shape.is_fully_defined():
        return shape.as_list()
    sizes = tf.unstack(tf.shape(tensor))
    return [size if known is None else known for known, size in zip(shape, sizes)]
