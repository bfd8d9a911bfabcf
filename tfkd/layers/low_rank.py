"""Kernels of low rank: a matrix that is the product of a tall and a wide one.

A kernel [F, G] of rank R is held as [F, R] and [R, G], which are smaller where R (F + G) < F G. The
product is never formed where a model runs on a device; inputs go through one factor and the other.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# A matrix, or the two factors whose product it is; of tensors or variables.
Kernel = Any


def add_kernel(
    layer: keras.layers.Layer, name: str, shape: tuple[int, int], rank: int, **kwargs: Any
) -> Kernel:
    """Adds a kernel to a layer: a variable, or two named `name`_left and `name`_right.

    Args:
      rank: of the kernel, which takes no more than its shape allows; 0 leaves it whole.
      kwargs: those of `keras.layers.Layer.add_weight`.
    """
    if not rank:
        return layer.add_weight(name=name, shape=shape, **kwargs)
    rank = min(rank, *shape)
    return (
        layer.add_weight(name=f"{name}_left", shape=(shape[0], rank), **kwargs),
        layer.add_weight(name=f"{name}_right", shape=(rank, shape[1]), **kwargs),
    )


def as_tensors(kernel: Kernel) -> Kernel:
    """The kernel's variables as tensors, in the precision of the call."""
    return tf.nest.map_structure(tf.convert_to_tensor, kernel)


def times(inputs: tf.Tensor, kernel: Kernel) -> tf.Tensor:
    """inputs [N, F] times the kernel [F, G]."""
    for factor in tf.nest.flatten(kernel):
        inputs = tf.matmul(inputs, factor)
    return inputs


def merged(kernel: Kernel) -> tf.Tensor:
    """The kernel as one matrix [F, G]."""
    return tf.matmul(*kernel) if isinstance(kernel, tuple) else kernel


def size_of(kernel: Kernel) -> tuple[int, int]:
    """F and G of a kernel [F, G]."""
    factors = tf.nest.flatten(kernel)
    return factors[0].shape[0], factors[-1].shape[-1]


def gradients_of_factors(gradient: tf.Tensor, kernel: Kernel) -> tuple[tf.Tensor, ...]:
    """The gradients of a kernel's one or two matrices, from that of the kernel [F, G]."""
    if not isinstance(kernel, tuple):
        return (gradient,)
    left, right = kernel
    return (
        tf.matmul(gradient, right, transpose_b=True),
        tf.matmul(left, gradient, transpose_a=True),
    )
