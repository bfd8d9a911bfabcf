"""Matrix products at the machine's speed.

TensorFlow's kernel on a CPU loses half of its speed where the rows of the right-hand matrix lie a
multiple of 512 bytes apart, so that they compete for the same lines of the cache, and nine tenths
where a small product transposes that matrix. Both are avoided here; docs/decisions/0008 has the
figures.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from tfkd.layers.static_shape import dimensions

# Columns of zeros that move the rows apart.
_SPARE = 16
_HARMFUL = 128  # columns of float32 that make 512 bytes


def widened(kernel: tf.Tensor) -> tf.Tensor:
    """kernel [..., K, N] with columns of zeros appended where N would make products slow."""
    if kernel.shape[-1] % _HARMFUL:
        return kernel
    return tf.pad(kernel, [[0, 0]] * (kernel.shape.rank - 1) + [[0, _SPARE]])


def widen_after(kernels: Iterable[tf.Tensor], inputs: tf.Tensor) -> list[tf.Tensor]:
    """The widened kernels, made only when the inputs that they meet are there.

    Without this dependency TensorFlow would copy the kernels of all layers at the start.
    """
    with tf.control_dependencies([inputs]):
        return [widened(kernel) for kernel in kernels]


def transposed(kernel: tf.Tensor) -> tf.Tensor:
    """kernel [K, N] as [N, K or more], for many small products with its transpose."""
    return widened(tf.transpose(kernel))


@tf.custom_gradient
def project(inputs: tf.Tensor, kernel: tf.Tensor):
    """inputs [..., F] times kernel [F, G] as one product.

    `tf.matmul` would do one small product per leading index, and sum as many kernel gradients.
    """
    *leading, _ = dimensions(inputs)
    product = tf.reshape(tf.matmul(rows_of(inputs), kernel), [*leading, kernel.shape[-1]])

    def gradient(upstream):
        d_inputs = tf.matmul(rows_of(upstream), kernel, transpose_b=True)
        return tf.reshape(d_inputs, tf.shape(inputs)), outer_sum(inputs, upstream)

    return product, gradient


def outer_sum(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """A kernel's gradient: inputs [..., F] (x) upstream [..., G], summed over leading indices."""
    return tf.matmul(tf.transpose(rows_of(inputs)), rows_of(upstream))


def sum_of_rows(values: tf.Tensor) -> tf.Tensor:
    """values [..., F] summed over leading indices, [F].

    As a product, which sums in float32; TensorFlow's own sum of float16 stops growing at 2048 ones.
    """
    rows = rows_of(values)
    return tf.matmul(tf.ones([1, dimensions(rows)[0]], rows.dtype), rows)[0]


def rows_of(values: tf.Tensor) -> tf.Tensor:
    """values [..., F] as a matrix [N, F]."""
    return tf.reshape(values, [-1, values.shape[-1] or tf.shape(values)[-1]])
