"""Fast matrix products on a CPU.

TensorFlow's CPU kernel loses half of its speed if the rows of the right-hand matrix lie a multiple
of 512 bytes apart, because they then compete for the same cache lines; it loses nine tenths if a
small product transposes that matrix. These functions avoid both; see
docs/decisions/0008-products.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from tfkd.layers import formulation
from tfkd.layers.low_rank import Kernel
from tfkd.layers.static_shape import dimensions

# Columns of zeros that are appended, to change the distance between rows.
_SPARE = 16
_HARMFUL = 128  # columns of float32 in 512 bytes


def widened(kernel: Kernel) -> Kernel:
    """Appends columns of zeros to kernel [..., K, N] if its N would make products slow."""
    if isinstance(kernel, tuple):
        return kernel[0], widened(kernel[1])
    if kernel.shape[-1] % _HARMFUL or not formulation.suits_cpu():
        return kernel
    return tf.pad(kernel, [[0, 0]] * (kernel.shape.rank - 1) + [[0, _SPARE]])


def widen_after(kernels: Iterable[Kernel], inputs: tf.Tensor) -> list[Kernel]:
    """Widens kernels once the inputs that they are multiplied with are computed.

    Without this dependency TensorFlow would copy the kernels of all layers at the start.
    """
    with tf.control_dependencies([inputs]):
        return [widened(kernel) for kernel in kernels]


def transposed(kernel: tf.Tensor) -> tf.Tensor:
    """Transposes kernel [K, N] to [N, K or more], for many small products with its transpose."""
    return widened(tf.transpose(kernel))


@tf.custom_gradient
def project(inputs: tf.Tensor, kernel: tf.Tensor):
    """Multiplies inputs [..., F] by kernel [F, G] in one product.

    `tf.matmul` would compute one small product for each leading index, and sum as many gradients.
    """
    *leading, _ = dimensions(inputs)
    product = tf.reshape(tf.matmul(rows_of(inputs), kernel), [*leading, kernel.shape[-1]])

    def gradient(upstream):
        d_inputs = tf.matmul(rows_of(upstream), kernel, transpose_b=True)
        return tf.reshape(d_inputs, tf.shape(inputs)), outer_sum(inputs, upstream)

    return product, gradient


def outer_sum(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Computes a kernel's gradient [F, G] from inputs [..., F] and upstream [..., G]."""
    return tf.matmul(tf.transpose(rows_of(inputs)), rows_of(upstream))


def sum_of_rows(values: tf.Tensor) -> tf.Tensor:
    """Sums values [..., F] over leading indices to [F].

    A matrix product sums in float32; TensorFlow's sum of ones in float16 stops growing at 2048.
    """
    rows = rows_of(values)
    return tf.matmul(tf.ones([1, dimensions(rows)[0]], rows.dtype), rows)[0]


def rows_of(values: tf.Tensor) -> tf.Tensor:
    """Reshapes values [..., F] to a matrix [N, F]."""
    return tf.reshape(values, [-1, values.shape[-1] or tf.shape(values)[-1]])
