"""Random seeds for the replicas of a training step, and sums over replicas."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Distance between the seeds of two replicas; no training draws as many seeds.
_STRIDE = 1_000_003


class ReplicaSeeds(keras.random.SeedGenerator):
    """Generates different seeds on each replica from a state that is the same on all of them.

    So a checkpoint of the chief's state serves all replicas. A single replica gets Keras' seeds.
    """

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns the next seed [2] of this replica."""
        seed = super().next(ordered)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([_STRIDE * replica, tf.zeros_like(replica)])


def sum_over_replicas(values: Any) -> Any:
    """Sums a nest of tensors over the replicas of a step; returns it unchanged if there is one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def share_of_mean(total: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Computes this replica's part of sum(total) / sum(weight) over all replicas; 0 for 0 / 0."""
    return tf.math.divide_no_nan(total, sum_over_replicas(weight))
