"""What a student of a job learns from, and what its baseline learns from in as many steps."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import NamedTuple

from tfkd import objectives
from tfkd.config import ObjectiveConfig, SystemConfig
from tfkd.records import Store
from tfkd.records.transcripts import transcribed_rows
from tfkd.training.batches import batches_per_pass

# Students that learn transcripts instead: those that the job may learn from, or all.
BASELINE, BASELINE_ALL = "student-truth", "student-truth-all"
_LOG = logging.getLogger("tfkd")


class Learned(NamedTuple):
    """The stores of one training, and what each counts in the loss; see `training.loop.train`."""

    stores: tuple[Store, ...]
    shares: tuple[float, ...] | None = None

    @property
    def labels(self) -> Store:
        """The labels, which come after the transcripts that are learned beside them."""
        return self.stores[-1]

    @property
    def epoch_size(self) -> int:
        """Utterances of an epoch: of transcripts beside labels, those that there are."""
        transcripts = self.stores[:-1]
        return sum(len(transcribed_rows(store)) for store in transcripts) + len(self.labels.index)


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

    That is one that learns every label: filters, and `seq_inter` where there is no reference, leave
    fewer. Steps are as equal as whole epochs allow.
    If only a part of the audio has transcripts, an epoch of the baseline goes through them several
    times. So it is validated as often as the other, and its best epoch is chosen among as many.
    """
    transcribed = sum(len(transcribed_rows(store)) for store in truth.stores)
    return with_steps_of(student, max(1, transcribed), labels)


def with_steps_of(student: SystemConfig, epoch_size: int, other: Learned) -> SystemConfig:
    """Gives a student as many optimizer steps as one that learns other data.

    Args:
      epoch_size: utterances of an epoch of the student.
    """
    training, augmentation = student.training, student.training.augmentation
    wanted_steps = training.passes_per_epoch * batches_per_pass(other.epoch_size, training)
    wanted_passes = wanted_steps / batches_per_pass(epoch_size, training)
    passes = max(1, round(wanted_passes))
    # What whole passes leave is made up for by more or fewer epochs.
    factor = wanted_passes / passes
    if augmentation is not None:
        clean_epochs = round(factor * augmentation.clean_epochs)
        augmentation = dataclasses.replace(augmentation, clean_epochs=clean_epochs)
    training = dataclasses.replace(
        training,
        epochs=max(1, round(factor * training.epochs)),
        passes_per_epoch=passes,
        patience=max(1, round(factor * training.patience)),
        augmentation=augmentation,
    )
    return dataclasses.replace(student, training=training)


def warn_of_unlearned(system: SystemConfig, learned: Learned, folder: Path) -> None:
    """Logs how many labels a student leaves out for want of a transcript to choose by."""
    objective = objectives.make_objective(system.training)
    if objective.needs_hypotheses and objective.needs_transcript:
        rows = learned.labels.index
        if missing := len(rows) - len(transcribed_rows(learned.labels)):
            _LOG.warning(
                "%s: %d of %d labels have no transcript to choose a hypothesis by and are left "
                "out, so it takes fewer optimizer steps than a student that learns every label; a "
                "mixture of seq_inter and seq_kd learns them, too",
                folder,
                missing,
                len(rows),
            )
