"""What a student of a job learns from, and what its baseline learns from in as many steps."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from tfkd import objectives
from tfkd.config import ObjectiveConfig, SystemConfig
from tfkd.records import Store
from tfkd.records.transcripts import transcribed_rows


class Learned(NamedTuple):
    """The stores of one training, and what each counts in the loss; see `training.loop.train`."""

    stores: tuple[Store, ...]
    shares: tuple[float, ...] | None = None

    @property
    def epoch_size(self) -> int:
        """Utterances of an epoch: of transcripts beside labels, those that there are."""
        *transcripts, labels = self.stores
        return sum(len(transcribed_rows(store)) for store in transcripts) + len(labels.index)


def distilled(system: SystemConfig, default: ObjectiveConfig | None = None) -> SystemConfig:
    """The config with an objective on pseudo labels, all else being equal.

    Args:
      default: the objective of a config that names none, being `truth`.
    """
    return with_objective(system, objectives.distilled(system.training.objective, default))


def undistilled(student: SystemConfig) -> SystemConfig:
    """The student's config with the objective `truth`; all else is equal."""
    return with_objective(student, objectives.undistilled(student.training.objective))


def with_objective(system: SystemConfig, objective: ObjectiveConfig) -> SystemConfig:
    """The config with another objective; all else is equal."""
    training = dataclasses.replace(system.training, objective=objective)
    return dataclasses.replace(system, training=training)


def as_baseline(student: SystemConfig, truth: Learned, labels: Learned) -> SystemConfig:
    """Gives a student with the objective `truth` as many optimizer steps as one on pseudo labels.

    If only a part of the audio has transcripts, an epoch of the baseline has fewer steps; so it
    gets proportionally more epochs, of patience and with clean audio as well.
    """
    factor = labels.epoch_size / max(1, sum(len(transcribed_rows(store)) for store in truth.stores))
    training, augmentation = student.training, student.training.augmentation
    if augmentation is not None:
        clean_epochs = round(factor * augmentation.clean_epochs)
        augmentation = dataclasses.replace(augmentation, clean_epochs=clean_epochs)
    training = dataclasses.replace(
        training,
        epochs=round(factor * training.epochs),
        patience=round(factor * training.patience),
        augmentation=augmentation,
    )
    return dataclasses.replace(student, training=training)
