"""One training step of tfkd's encoder and decoder.

`--case` names a precision of training, or xla, or both with a plus between them.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import timed_process
from feature_recogniser import FeatureRecogniser
from sizes import BATCH, FRAMES, MELS, SIZES, SOS_ID, TOKENS, VOCABULARY

from tfkd.malloc import share_one_heap
from tfkd.objectives.losses import sequence_cross_entropy
from tfkd.training.optimizers import Adam

# What the programs of TensorFlow train with.
ADAM = {"learning_rate": 1e-4, "global_clipnorm": 5.0}


def measure_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    repeats: int,
    base_mb: float,
    *,
    xla: bool = False,
) -> None:
    """Times forward, backward, clipping and Adam with open shapes, as in `fit`."""
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(BATCH, FRAMES, MELS)), tf.float32)
    token_ids = tf.constant(rng.integers(4, VOCABULARY, (BATCH, TOKENS)), tf.int32)
    previous = tf.concat([tf.fill([BATCH, 1], SOS_ID), token_ids[:, :-1]], 1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, MELS], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
        ],
        autograph=False,
        jit_compile=xla,
    )
    def step(features, previous, token_ids):
        with tf.GradientTape() as tape:
            logits = model(features, previous)
            weights = tf.ones_like(token_ids[:, :1], tf.float32)
            loss = sequence_cross_entropy(logits, token_ids[:, None], weights)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    timed_process.report(lambda: step(features, previous, token_ids).numpy(), repeats, base_mb)


def main() -> None:
    share_one_heap()  # as tfkd's commands do
    options, base_mb = timed_process.arguments(), timed_process.resident_mb()
    timed_process.limit_threads(options.threads)
    keras.utils.set_random_seed(0)
    precision = options.case.removesuffix("xla").removesuffix("+") or "float32"
    optimizer = Adam(**ADAM)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    measure_steps(
        FeatureRecogniser(SIZES[options.size], VOCABULARY, precision=precision),
        optimizer,
        options.repeats,
        base_mb,
        xla=options.case.endswith("xla"),
    )


if __name__ == "__main__":
    main()
