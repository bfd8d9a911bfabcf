"""Reads the sizes of tensors with few operations, because each costs a graph memory and time."""

from __future__ import annotations

import tensorflow as tf


def dimensions(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """Returns the sizes of a tensor of known rank: ints where they are static, else scalars."""
    shape = tf.TensorShape(tensor.shape)
    if shape.is_fully_defined():
        return shape.as_list()
    sizes = tf.unstack(tf.shape(tensor))
    return [size if known is None else known for known, size in zip(shape, sizes, strict=True)]
