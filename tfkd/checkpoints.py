"""State of an unfinished training: weights, optimizer and progress, written so that a kill at any
moment leaves a good one behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from tfkd.errors import CheckpointError
from tfkd.files import atomic_directory, sha256, write_json

_KEPT = 2
_STATE = "state.npz"
_PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a training has come; one row of `history` per finished epoch."""

    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)

    def best_epoch(self, key: str) -> int:
        """Index of the earliest epoch with the lowest `key`; -1 before the first."""
        values = [row[key] for row in self.history]
        return values.index(min(values)) if values else -1


def save_checkpoint(directory: Path, model: keras.Model, progress: Progress) -> None:
    """Writes one checkpoint and removes all but the newest two."""
    with atomic_directory(directory / f"epoch-{progress.epochs:04d}") as temporary:
        np.savez(temporary / _STATE, *[np.asarray(v) for v in _variables(model)])
        write_json(
            temporary / _PROGRESS, {**asdict(progress), "sha256": sha256(temporary / _STATE)}
        )
    for old in _newest_first(directory)[_KEPT:]:
        shutil.rmtree(old)


def restore_checkpoint(directory: Path, model: keras.Model) -> Progress:
    """Loads the newest good checkpoint into a compiled `model`; without one, starts anew.

    Raises:
      CheckpointError: if a checkpoint is whole but belongs to another model.
    """
    model.optimizer.build(model.trainable_variables)
    for candidate in _newest_first(directory):
        if (progress := _read_progress(candidate)) is not None:
            _assign(candidate / _STATE, model)
            return progress
    return Progress()


def _read_progress(checkpoint: Path) -> Progress | None:
    """The progress of a checkpoint whose files are whole, or None."""
    try:
        content = json.loads((checkpoint / _PROGRESS).read_text())
        if content.pop("sha256") == sha256(checkpoint / _STATE):
            return Progress(**content)
    except (OSError, ValueError, KeyError, TypeError):
        # Damaged: the next older one takes its place.
        return None
    return None


def _assign(path: Path, model: keras.Model) -> None:
    variables = _variables(model)
    with np.load(path, allow_pickle=False) as arrays:
        values = [arrays[f"arr_{i}"] for i in range(len(arrays))]
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise CheckpointError("belongs to another model", path=path.parent)
    for variable, value in zip(variables, values):
        variable.assign(value)


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("epoch-*"), reverse=True)
