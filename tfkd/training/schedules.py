"""Makes the schedule of the learning rate."""

from __future__ import annotations

import keras

from tfkd.config import TrainingConfig


def learning_rate_schedule(
    training: TrainingConfig, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Makes the schedule that `training.schedule` names.

    "cosine" rises linearly for `warmup_steps` and then falls along a half-cosine to
    `final_learning_rate`. "exponential" multiplies `learning_rate` by `epoch_decay` after each
    epoch.

    Args:
      training: the settings of the schedule.
      total_steps: number of optimizer steps of the whole training. Warm-up takes at most a quarter.
    References:
      Loshchilov and Hutter 2017, "SGDR", arXiv:1608.03983, eq. 5 (cosine, without restarts).
      Mun'im et al. 2019, arXiv:1811.04531, section 4 (exponential, 0.99).
    """
    if training.schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(
            training.learning_rate,
            decay_steps=max(1, total_steps // training.epochs),
            decay_rate=training.epoch_decay,
            staircase=True,
        )
    warmup = min(training.warmup_steps, total_steps // 4)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=training.learning_rate / 100,
        warmup_target=training.learning_rate,
        warmup_steps=max(1, warmup),
        decay_steps=max(1, total_steps - warmup),
        alpha=training.final_learning_rate / training.learning_rate,
    )
