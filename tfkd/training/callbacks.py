"""Keras callbacks: validation WER, checkpoints, resumption, checks for finite numbers, curves.

Example:
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> tfkd.callbacks.ValidationErrorRate(run.decoder(), valid).model is None
    True
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfkd.data.audio_batches import audio_batches
from tfkd.data.sample_rates import check_rate
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.decoding.run_writing import save_model
from tfkd.decoding.runs import MODEL
from tfkd.errors import TrainingError
from tfkd.metrics import score
from tfkd.records import Store
from tfkd.storage.files import write_text
from tfkd.storage.markers import HISTORY
from tfkd.training.checkpoints import Progress, is_finite, restore_checkpoint, save_checkpoint
from tfkd.training.distribution import Replicas
from tfkd.training.optimizers import averaged_weights

_LOG = logging.getLogger("tfkd")
CHECKPOINTS = "checkpoints"
# Validation audio up to this duration is cached: 230 MB as float32 at 16 kHz.
_MAX_CACHED_SECONDS = 3600


class ValidationErrorRate(keras.callbacks.Callback):
    """Decodes the validation data after each epoch and adds its WER, `val_wer`, to the logs.

    With several workers, the chief decodes and sends the others the result.

    Args:
      decoder: the search; it holds the model that is trained.
      store: utterances; those without a transcript are decoded, but not scored.
      batch_size: utterances decoded together.
      replicas: the devices of a distributed training; by default there is one.
    Raises:
      RecordError: if the utterances have another sample rate than the model.

    >>> run, store = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> decoder = tfkd.Decoder(run.model, run.tokenizer, run.system.decoding)
    >>> 0 <= tfkd.callbacks.ValidationErrorRate(decoder, store).measure() < 0.5
    True
    """

    def __init__(
        self,
        decoder: Decoder,
        store: Store,
        batch_size: int = 16,
        replicas: Replicas | None = None,
    ) -> None:
        super().__init__()
        check_rate(store, decoder.model.config.frontend.sample_rate_hz)
        self.decoder = decoder
        self.batches = audio_batches(store, batch_size)
        if store.summary.duration_seconds < _MAX_CACHED_SECONDS:
            self.batches = self.batches.cache()
        self.replicas = replicas or Replicas()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        wer = self.measure() if self.replicas.is_chief else 0.0
        if logs is not None:
            logs["val_wer"] = float(self.replicas.from_chief(np.array(wer)))

    def measure(self) -> float:
        """Decodes the validation data and returns its WER as a share."""
        with averaged_weights(self.decoder.model):
            pairs = [
                (decoded.reference, decoded.best_text)
                for decoded in decode_dataset(self.decoder, self.batches)
                if decoded.reference is not None
            ]
        return score([r for r, _ in pairs], [h for _, h in pairs], samples=1).wer


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends training at the first loss or gradient that is not finite, and names the batch.

    With loss scaling, gradients may overflow while the scale is above one: the optimizer then skips
    the step and lowers the scale. This callback must come before the one that updates `progress`.

    Args:
      progress: the finished epochs and batches.
      steps_per_epoch: number of batches of an epoch.
      contents: maps the number of an epoch and of a batch in it to a description of the batch, so
        that batches need not carry names to the device.
    Raises:
      TrainingError: from the callbacks of `fit`, with the step and the batch.
    """

    def __init__(
        self, progress: Progress, steps_per_epoch: int, contents: Callable[[int, int], str]
    ) -> None:
        super().__init__()
        self.progress, self.steps_per_epoch = progress, steps_per_epoch
        self.contents = contents

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        batch = self.progress.batches
        if logs and not math.isfinite(logs["loss"]):
            self._refuse("the loss or its gradient is", batch)
        if float(getattr(self.model.optimizer, "dynamic_scale", 1.0)) < 1.0:
            self._refuse("the gradient, however little the loss is scaled, is", batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # The last update can make weights infinite, although its loss was finite.
        if not is_finite(self.model):
            self._refuse("weights are", self.progress.batches - 1)

    def _refuse(self, what: str, batch: int) -> NoReturn:
        # Count the steps here: the optimizer does not count those that loss scaling skips.
        step = self.progress.epochs * self.steps_per_epoch + batch + 1
        raise TrainingError(
            f"{what} not finite at step {step}, on {self.contents(self.progress.epochs, batch)}",
            remedy="check this audio and its text, or lower training.learning_rate or "
            "training.clip_norm and choose another --out or work_dir; the last finite checkpoint "
            "is kept",
        )


class KeepProgress(keras.callbacks.Callback):
    """Keeps the best model, the history, and checkpoints to resume from.

    Args:
      out: folder of the run.
      progress: the finished epochs and batches, which this callback updates.
      checkpoint_minutes: time between checkpoints inside an epoch.
      monitor: key of the logs whose lowest value marks the best epoch.
      save: writes the model of the best epoch to a path.
    """

    def __init__(
        self,
        out: Path,
        progress: Progress,
        checkpoint_minutes: float,
        *,
        monitor: str = "val_wer",
        save: Callable[[keras.Model, Path], None] | None = None,
    ) -> None:
        super().__init__()
        self.monitor, self.save = monitor, save or save_model
        self.out, self.progress = out, progress
        self.checkpoint_seconds = 60 * checkpoint_minutes
        self.last_checkpoint = self.counted_until = time.monotonic()
        self.metrics_so_far: list[np.ndarray] = []

    def resume(self, model: keras.Model) -> None:
        """Continues from the state that `restore_checkpoint` has loaded into `model`.

        If the training was killed after a checkpoint but before the files that follow it, these are
        written now.
        """
        self.set_model(model)
        if self.progress.batches:
            self.metrics_so_far = [np.array(v) for v in model.metrics_variables]
        history = self.out / HISTORY
        if not history.exists() or history.read_bytes() != self._history_lines().encode():
            self._write_results()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # `fit` has just reset the metrics; restore those of the unfinished epoch.
        if self.metrics_so_far:
            unfinished = zip(self.model.metrics_variables, self.metrics_so_far, strict=True)
            for variable, value in unfinished:
                variable.assign(value)
            self.metrics_so_far = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.progress.batches += 1
        is_last = batch + 1 == self.params["steps"]
        is_due = time.monotonic() - self.last_checkpoint >= self.checkpoint_seconds
        # The last update can make weights infinite, although its loss was finite.
        if is_due and not is_last and is_finite(self.model):
            self._checkpoint()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.progress.history.append({k: float(v) for k, v in (logs or {}).items()})
        self.progress.batches = 0
        self._checkpoint()
        self._write_results()

    def _checkpoint(self) -> None:
        self._count_seconds()
        save_checkpoint(self.out / CHECKPOINTS, self.model, self.progress)
        self.last_checkpoint = time.monotonic()

    def _count_seconds(self) -> None:
        earlier, self.counted_until = self.counted_until, time.monotonic()
        if self.progress.seconds is not None:
            self.progress.seconds += self.counted_until - earlier

    def _write_results(self) -> None:
        if self.progress.is_best(self.monitor):
            with averaged_weights(self.model):
                self.save(self.model, self.out / MODEL)
        write_text(self.out / HISTORY, self._history_lines())

    def _history_lines(self) -> str:
        return "".join(json.dumps(row) + "\n" for row in self.progress.history)


class Checkpoints(keras.callbacks.Callback):
    """Makes a plain `fit` resumable: loads the newest checkpoint and writes one after each epoch.

    A checkpoint holds weights, optimizer, metrics and random state. It is written atomically, so a
    process killed at any moment leaves a good one. This callback must come after those that add to
    the logs.

    Args:
      directory: folder for the checkpoints of this training alone.
      model: a compiled model; the newest checkpoint is loaded into it at once.
    Attributes:
      epoch: number of the first epoch that is still to be trained.
      progress: the logs of the finished epochs.
    Raises:
      CheckpointError: if the checkpoints are of another model.
      TrainingError: if the model is not compiled.

    >>> run, store = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> objective = tfkd.objectives.Truth()
    >>> run.model.compile("adam", objective)
    >>> checkpoints = tfkd.callbacks.Checkpoints("work/checkpoints", run.model)
    >>> history = run.model.fit(
    ...     tfkd.batches(store, run.tokenizer, objective, first_epoch=checkpoints.epoch),
    ...     initial_epoch=checkpoints.epoch,
    ...     epochs=1,
    ...     callbacks=[checkpoints],
    ...     verbose=0,
    ... )
    >>> tfkd.callbacks.Checkpoints("work/checkpoints", run.model).epoch
    1
    """

    def __init__(self, directory: str | Path, model: keras.Model) -> None:
        super().__init__()
        if not model.compiled:
            raise TrainingError(
                "the model is not compiled, so it has no optimizer to restore",
                remedy="call model.compile first",
            )
        self.directory = Path(directory)
        self.progress = restore_checkpoint(self.directory, model)

    @property
    def epoch(self) -> int:
        """The first epoch that is still to be trained."""
        return self.progress.epochs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.progress.history.append({k: float(v) for k, v in (logs or {}).items()})
        if is_finite(self.model):
            save_checkpoint(self.directory, self.model, self.progress)
        else:
            _LOG.warning("%s: weights are not finite; epoch %d is not kept", self.directory, epoch)


class CurvesForTensorBoard(keras.callbacks.Callback):
    """Writes each epoch's logs for TensorBoard; Keras' own callback needs one call of `fit`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with self.writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(f"epoch_{name}", value)
        self.writer.flush()
