"""Compiles a recogniser as the settings of a training say."""

from __future__ import annotations

import keras

from tfkd.config import TrainingConfig
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Objective, make_objective
from tfkd.training.optimizers import Adam
from tfkd.training.schedules import learning_rate_schedule


def compile_for(
    model: Recogniser,
    training: TrainingConfig,
    total_steps: int,
    objective: Objective | None = None,
) -> None:
    """Compiles with Adam, clipping, and the schedule of the settings.

    Args:
      total_steps: optimizer steps of the whole training, over which the learning rate falls.
      objective: what is learned; that of `training` by default.
    """
    schedule = learning_rate_schedule(training, total_steps)
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
