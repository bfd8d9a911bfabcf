"""What is drawn at random while training: each replica draws for its own rows."""

from __future__ import annotations

import keras
import tensorflow as tf

# Between the seeds of two replicas, which their counters do not bridge.
_STRIDE = 1_000_003


class ReplicaSeeds(keras.random.SeedGenerator):
    """Seeds that differ between replicas, from a state that is the same on all of them.

    So a checkpoint of the chief's state is one of all. With one replica they are those of Keras.
    """

    def next(self, ordered: bool = True) -> tf.Tensor:
        """The next seed [2] of this replica."""
        seed = super().next(ordered)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([_STRIDE * replica, tf.zeros_like(replica)])


class Dropout(keras.layers.Layer):
    """`keras.layers.Dropout` whose replicas drop other values."""

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        if rate > 0:
            # A variable, so that a training that resumes from a checkpoint draws what follows.
            self.seed_generator = ReplicaSeeds()
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Zeroes a share `rate` of the inputs while training, and scales the rest up for it."""
        if not training or self.rate == 0:
            return inputs
        return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}
