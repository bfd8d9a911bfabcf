"""Trainings in processes of their own, which say after each step how far they have come."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import keras
import tensorflow as tf
from forks import Worker, fork_worker, write_messages_to

from tfkd.config import SystemConfig
from tfkd.records import open_store
from tfkd.training import loop as training
from tfkd.training.callbacks import KeepProgress


@dataclass(frozen=True)
class Task:
    """What is trained, and on which stores.

    Attributes:
      eagerly: without graphs, as the fixture of this name says.
    """

    system: SystemConfig
    train: Path
    valid: Path
    eagerly: bool

    def start(self, run: Path) -> Worker:
        """Begins, or goes on, to train into `run`."""
        return fork_worker(_train, self, run, messages=run.with_suffix(".messages"))


class _EachEpochIsTheBest(keras.callbacks.Callback):
    """In place of decoding, so that the model is written after each epoch, too."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs["val_wer"] = 1 / (epoch + 2)


def _train(task: Task, run: Path, messages: Path, sender: Connection) -> None:
    write_messages_to(messages)
    # On several threads sums may be taken in another order, and the last bits differ.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    tf.config.run_functions_eagerly(task.eagerly)

    class Announcing(KeepProgress):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            sender.send(int(self.model.optimizer.iterations.numpy()))
            super().on_train_batch_end(batch, logs)

    training.KeepProgress = Announcing
    training.ValidationErrorRate = _EachEpochIsTheBest
    training.train(task.system, open_store(task.train), open_store(task.valid), run)
