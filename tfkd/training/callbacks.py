"""What happens beside the steps of a training: checks, checkpoints, error rates, curves.

Example:
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> tfkd.callbacks.ValidationErrorRate(run.decoder(), valid).model is None
    True
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.decoding.runs import MODEL, save_model
from tfkd.errors import TrainingError
from tfkd.metrics import score
from tfkd.records import Store
from tfkd.storage.files import write_text
from tfkd.training.checkpoints import Progress, is_finite, restore_checkpoint, save_checkpoint
from tfkd.training.distribution import Replicas

CHECKPOINTS = "checkpoints"
HISTORY = "history.jsonl"
# Validation audio is kept decoded up to here: 230 MB at 16 kHz.
_MOST_KEPT_SECONDS = 3600


class ValidationErrorRate(keras.callbacks.Callback):
    """Adds `val_wer` of real decoding to the logs of each epoch.

    The chief decodes; other workers wait for the result.

    Args:
      decoder: how the search goes; it holds the model that is trained.
      store: utterances, of which those with a transcript count.
      batch_size: utterances decoded together.

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
        self.decoder = decoder
        self.batches = audio_batches(store, batch_size)
        if store.summary.duration_seconds < _MOST_KEPT_SECONDS:
            self.batches = self.batches.cache()
        self.replicas = replicas or Replicas()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        wer = self.measure() if self.replicas.is_chief else 0.0
        if logs is not None:
            logs["val_wer"] = float(self.replicas.from_chief(np.array(wer)))

    def measure(self) -> float:
        """WER of the validation data, as a share."""
        pairs = [
            (decoded.reference, decoded.best_text)
            for decoded in decode_dataset(self.decoder, self.batches)
            if decoded.reference is not None
        ]
        return score([r for r, _ in pairs], [h for _, h in pairs], samples=1).wer


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends training at the first loss or gradient that is not finite, and names the batch.

    A scaled loss may have such gradients until its scale fits, but not below a scale of one. It
    comes before the callback that keeps `progress`.

    Args:
      progress: how far the training has come.
      steps_per_epoch: of every epoch.
      contents: says of the number of an epoch, and that of a batch in it, what it was made of; so
        the step itself need not carry the names.
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
        # A last step can spoil the weights after its loss was still finite.
        if not is_finite(self.model):
            self._refuse("weights are", self.progress.batches - 1)

    def _refuse(self, what: str, batch: int) -> NoReturn:
        # The optimizer does not count the steps that a scaled loss leaves out.
        step = self.progress.epochs * self.steps_per_epoch + batch + 1
        raise TrainingError(
            f"{what} not finite at step {step}, on {self.contents(self.progress.epochs, batch)}",
            remedy="look at them, or lower training.learning_rate or training.clip_norm and "
            "choose another --out; the last finite checkpoint is kept",
        )


class KeepProgress(keras.callbacks.Callback):
    """Keeps the best model, the history, and checkpoints to resume from.

    Args:
      out: folder of the run.
      progress: how far the training has come; kept up to date here.
      checkpoint_minutes: age of the last checkpoint at which an unfinished epoch gets another.
      monitor: the value of the logs by which an epoch is the best.
      save: writes the weights of the best epoch.
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
        self.last_checkpoint = time.monotonic()
        self.metrics_so_far: list[np.ndarray] = []

    def resume(self, model: keras.Model) -> None:
        """Takes over what `restore_checkpoint` has put into `model`, and mends the folder.

        A kill may have struck between a checkpoint and the files that are written after it.
        """
        self.set_model(model)
        if self.progress.batches:
            self.metrics_so_far = [np.array(v) for v in model.metrics_variables]
        history = self.out / HISTORY
        if not history.exists() or history.read_bytes() != self._history_lines().encode():
            self._write_results()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # `fit` has just set them to zero.
        for variable, value in zip(self.model.metrics_variables, self.metrics_so_far):
            variable.assign(value)
        self.metrics_so_far = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.progress.batches += 1
        is_last = batch + 1 == self.params["steps"]
        is_due = time.monotonic() - self.last_checkpoint >= self.checkpoint_seconds
        # Weights can be spoilt while the loss before the step was finite.
        if is_due and not is_last and is_finite(self.model):
            self._checkpoint()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.progress.history.append({k: float(v) for k, v in (logs or {}).items()})
        self.progress.batches = 0
        self._checkpoint()
        self._write_results()

    def _checkpoint(self) -> None:
        save_checkpoint(self.out / CHECKPOINTS, self.model, self.progress)
        self.last_checkpoint = time.monotonic()

    def _write_results(self) -> None:
        if self.progress.is_best(self.monitor):
            self.save(self.model, self.out / MODEL)
        write_text(self.out / HISTORY, self._history_lines())

    def _history_lines(self) -> str:
        return "".join(json.dumps(row) + "\n" for row in self.progress.history)


class Checkpoints(keras.callbacks.Callback):
    """Keeps a checkpoint of each epoch of a plain `fit`, and takes up the newest one.

    A checkpoint holds weights, optimizer, metrics and random state; a kill at any moment leaves a
    good one behind. It comes after the callbacks that add to the logs.

    Args:
      directory: folder of the checkpoints of this training alone.
      model: a compiled model; what the newest checkpoint holds is put into it at once.
    Attributes:
      epoch: the first one that is still to be trained.
      progress: the logs of the finished epochs, among others.
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
            raise TrainingError("the model is not compiled", remedy="call model.compile first")
        self.directory = Path(directory)
        self.progress = restore_checkpoint(self.directory, model)

    @property
    def epoch(self) -> int:
        """The first epoch that is still to be trained."""
        return self.progress.epochs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.progress.history.append({k: float(v) for k, v in (logs or {}).items()})
        save_checkpoint(self.directory, self.model, self.progress)


class CurvesForTensorBoard(keras.callbacks.Callback):
    """Writes each epoch's logs for TensorBoard; Keras' own callback wants a single `fit`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with self.writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(f"epoch_{name}", value)
        self.writer.flush()
