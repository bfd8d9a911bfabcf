"""The recogniser as Keras `fit` trains it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfkd.config import TrainingConfig
from tfkd.layers.replicas import sum_over_replicas
from tfkd.models.recogniser import Recogniser, RecogniserOutput
from tfkd.objectives.losses import ctc, sequence_cross_entropy
from tfkd.training.optimizers import Adam
from tfkd.training.padding import INPUTS


class _Means:
    """Means of an epoch. Not made inside of a strategy, so that reading them asks no other worker;
    and inside an object, so that Keras does not look for them among the model's weights."""

    def __init__(self, *names: str) -> None:
        self.metrics = [keras.metrics.Mean(name) for name in names]

    def update(self, values: dict[str, tf.Tensor]) -> None:
        for metric in self.metrics:
            metric.update_state(values[metric.name])


@keras.saving.register_keras_serializable("tfkd")
class TrainableRecogniser(Recogniser):
    """A Recogniser whose `fit` minimises cross-entropy on weighted targets, and CTC beside it.

    Keras' own `fit` fails where there are several workers, so what it does in a step is ours.
    """

    train_function: Callable[[Any], dict[str, tf.Tensor]] | None

    def configure(self, training: TrainingConfig, total_steps: int) -> None:
        """Compiles with Adam, clipping, and a linear warm-up into a cosine decay."""
        self.training_config = training
        warmup = min(training.warmup_steps, total_steps // 4)
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=training.learning_rate / 100,
            warmup_target=training.learning_rate,
            warmup_steps=max(1, warmup),
            decay_steps=max(1, total_steps - warmup),
            alpha=training.final_learning_rate / training.learning_rate,
        )
        with self.distribute_strategy.scope():
            optimizer = Adam(schedule, global_clipnorm=training.clip_norm or None)
            if training.precision == "mixed_float16":
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            optimizer.build(self.trainable_variables)
        self.compile(optimizer, jit_compile=training.xla, auto_scale_loss=False)
        self.means = _Means("loss", "attention_loss", "ctc_loss")

    @property
    def metrics(self) -> list[keras.Metric]:
        """Means of the loss and its parts, which `fit` shows."""
        return self.means.metrics

    def losses_of(self, batch: dict[str, tf.Tensor], output: RecogniserOutput):
        """(1 - c) cross-entropy + c CTC, and both; Kim et al. 2017, arXiv:1609.06773, eq. 9."""
        share, targets = self.training_config.ctc_weight, (batch["token_ids"], batch["weights"])
        attention = sequence_cross_entropy(
            output.logits, *targets, self.training_config.label_smoothing
        )
        alignment = tf.zeros_like(attention)
        if share:
            alignment = ctc(
                output.ctc_logits,
                output.encoded_lengths,
                *targets,
                for_xla=self.training_config.xla,
            )
        loss = (1 - share) * attention + share * alignment
        return {"loss": loss, "attention_loss": attention, "ctc_loss": alignment}

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Does one step with this replica's share of a batch; returns the losses of all of it.

        The loss is no number where its gradient is not finite.
        """
        with tf.GradientTape() as tape:
            losses = self.losses_of(batch, self(batch, training=True))
            loss = self.optimizer.scale_loss(losses["loss"])
        variables = [variable.value for variable in self.trainable_variables]
        # A head that is not trained gets zeros, which can be summed.
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients, losses = sum_over_replicas(gradients), sum_over_replicas(losses)
        self.optimizer.apply(gradients, self.trainable_variables)
        # Steps of a scaled loss are not done where their gradient is not finite.
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            is_finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
            losses["loss"] = tf.where(is_finite, losses["loss"], math.nan)
        return losses

    def make_train_function(self, force: bool = False) -> None:
        """Makes what `fit` calls for each step; keeps it, because each epoch is a `fit`."""
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy
        step = self.train_step
        if self.jit_compile:
            step = tf.function(step, jit_compile=True)

        @tf.function(reduce_retracing=True)
        def train_function(iterator) -> dict[str, tf.Tensor]:
            batch = next(iterator)
            losses = strategy.run(step, args=({name: batch[name] for name in INPUTS},))
            self.means.update(
                {k: strategy.experimental_local_results(v)[0] for k, v in losses.items()}
            )
            return self.get_metrics_result()

        self.train_function = train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Nothing: every weight is there. Keras would average batches over replicas for it."""
