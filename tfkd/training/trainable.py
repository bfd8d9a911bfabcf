"""Compiles a recogniser as the settings of a training say."""

from __future__ import annotations

import keras

from tfkd.config import TrainingConfig
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Objective, make_objective
from tfkd.training.optimizers import Adam


def compile_for(
    model: Recogniser,
    training: TrainingConfig,
    total_steps: int,
    objective: Objective | None = None,
) -> None:
    """Compiles with Adam, clipping, and a linear warm-up into a cosine decay.

    Args:
      total_steps: optimizer steps of the whole training, at which the decay ends.
      objective: what is learned; that of `training` by default.
    """
    warmup = min(training.warmup_steps, total_steps // 4)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=training.learning_rate / 100,
        warmup_target=training.learning_rate,
        warmup_steps=max(1, warmup),
        decay_steps=max(1, total_steps - warmup),
        alpha=training.final_learning_rate / training.learning_rate,
    )
    with model.distribute_strategy.scope():
        optimizer = Adam(schedule, global_clipnorm=training.clip_norm or None)
        if training.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        objective or make_objective(training),
        jit_compile=training.xla,
        auto_scale_loss=False,
    )
