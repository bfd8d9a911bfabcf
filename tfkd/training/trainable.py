"""Compiles a recogniser with the optimizer and objective that a config describes."""

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
    """Compiles a model with the optimizer and the precision that `training` describes.

    Args:
      total_steps: number of optimizer steps of the whole training, for the schedule.
      objective: `training.objective` by default.
    """
    schedule = learning_rate_schedule(training, total_steps)
    with model.distribute_strategy.scope():
        optimizer = Adam(
            schedule,
            global_clipnorm=training.clip_norm or None,
            average_share=training.average_share,
        )
        if training.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        objective or make_objective(training),
        jit_compile=training.xla,
        auto_scale_loss=False,
    )
