"""Writes and restores checkpoints: weights, optimizer, metrics and progress of a training.

Each is written beside the others and renamed, so a process killed at any moment leaves a good one.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from tfkd.errors import CheckpointError, RecordError
from tfkd.storage.files import atomic_directory, sha256
from tfkd.storage.sealed_json import read_sealed, write_sealed

_KEPT = 2
# Other files and folders may begin like a checkpoint, those of Keras' ModelCheckpoint for example.
_NAME = re.compile(r"epoch-\d{8}(-batch-\d{8})?")
_STATE = "state.npz"
_PROGRESS = "progress.json"
_LOG = logging.getLogger("tfkd")


@dataclass
class Progress:
    """The finished part of a training.

    Attributes:
      history: the logs of each finished epoch.
      batches: number of finished batches of the next epoch.
      seconds: wall time of what is finished; None where checkpoints of an earlier version lack it.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    batches: int = 0
    seconds: float | None = 0.0

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder; names sort in the order of time."""
        return f"epoch-{self.epochs:08d}" + f"-batch-{self.batches:08d}" * (self.batches > 0)

    def best_epoch(self, key: str) -> int:
        """Index of the latest epoch with the lowest `key`; -1 before the first.

        On few validation utterances many epochs are equal. Of these the latest has learned most,
        at the lowest learning rate.
        """
        epochs = self._best_epochs(key)
        return epochs[-1] if epochs else -1

    def is_best(self, key: str) -> bool:
        """Whether this is the end of the best epoch so far."""
        return not self.batches and 0 <= self.best_epoch(key) == self.epochs - 1

    def has_stalled(self, patience: int, key: str = "val_wer") -> bool:
        """Whether `key` has not fallen for `patience` epochs."""
        epochs = self._best_epochs(key)
        return bool(epochs) and self.epochs - 1 - epochs[0] >= patience

    def _best_epochs(self, key: str) -> list[int]:
        values = [row[key] for row in self.history]
        return [epoch for epoch, value in enumerate(values) if value == min(values)]


def save_checkpoint(directory: Path, model: keras.Model, progress: Progress) -> None:
    """Writes one checkpoint and removes all but the newest two."""
    with atomic_directory(directory / progress.name) as temporary:
        np.savez(temporary / _STATE, *[np.asarray(v) for v in state_of(model)])
        digest = sha256(temporary / _STATE)
        write_sealed(temporary / _PROGRESS, {**asdict(progress), "sha256": digest})
    _remove(_newest_first(directory)[_KEPT:])


def restore_checkpoint(directory: Path, model: keras.Model) -> Progress:
    """Loads the newest undamaged checkpoint into a compiled `model`, if there is one.

    Removes unfinished checkpoints and, with a warning, damaged ones: they would count among the two
    newest, which are kept.

    Returns:
      The progress of the checkpoint, or that of a new training.
    Raises:
      CheckpointError: if the checkpoint is undamaged but belongs to another model.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _remove(directory.glob(".epoch-*"))
    candidates = _newest_first(directory)
    for place, candidate in enumerate(candidates):
        if (progress := _read_progress(candidate)) is not None:
            _assign(candidate / _STATE, model)
            _remove(candidates[:place] + candidates[place + _KEPT :])
            return progress
        _LOG.warning("%s: is damaged; training goes on from an earlier checkpoint", candidate)
    _remove(candidates)
    return Progress()


def is_finite(model: keras.Model) -> bool:
    """Whether all weights, optimizer variables and metrics are finite."""
    return all(np.isfinite(np.asarray(variable)).all() for variable in state_of(model))


def _read_progress(checkpoint: Path) -> Progress | None:
    """Reads the progress of a checkpoint; None if it is damaged."""
    try:
        content = read_sealed(checkpoint / _PROGRESS)
        if content.pop("sha256") == sha256(checkpoint / _STATE):
            return Progress(**{"seconds": None, **content})
    except (RecordError, OSError, KeyError, TypeError):
        # Damaged, or written by another version: the caller tries the next older checkpoint.
        return None
    return None


def _assign(path: Path, model: keras.Model) -> None:
    variables = state_of(model)
    with np.load(path, allow_pickle=False) as arrays:
        values = [arrays[f"arr_{i}"] for i in range(len(arrays))]
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise CheckpointError(
            "belongs to a model with other shapes",
            path=path.parent,
            remedy="choose another folder for this training",
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def state_of(model: keras.Model) -> list[keras.Variable]:
    """Lists the variables of a checkpoint, with the running metrics of an unfinished epoch."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _remove(checkpoints: Iterable[Path]) -> None:
    for checkpoint in checkpoints:
        shutil.rmtree(checkpoint)


def _newest_first(directory: Path) -> list[Path]:
    found = (each for each in directory.glob("epoch-*") if _NAME.fullmatch(each.name))
    return sorted((each for each in found if each.is_dir()), reverse=True)
