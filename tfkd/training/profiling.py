"""Measures how long the parts of a training take: preparation, input, steps, validation, ..."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

BEFORE = "before the first step"
FIRST_STEP, INPUT, STEP = "first step (tracing)", "waiting for input", "steps"
VALIDATION, CHECKPOINTING = "validation", "checkpoints"
TRACE, OTHER = "writing the trace", "other"
# By these steps the input pipeline has filled its buffers.
_TRACED_STEPS = range(5, 10)


class Profile(keras.callbacks.Callback):
    """Splits the wall time of a training into parts, from this object's creation to the last step.

    This callback must come before those that it times. Each worker profiles its own work.

    Args:
      trace_directory: folder for a TensorBoard trace of some steps; none by default.

    Attributes:
      seconds: wall time of each part; they add up to `wall_seconds`.
      steps, utterances: numbers of steps and utterances.
      samples: number of samples of all batches, padding included, after speed perturbation.
      padded_samples: number of those that are padding.
    """

    def __init__(self, trace_directory: Path | None = None) -> None:
        super().__init__()
        self.trace_directory = trace_directory
        parts = (BEFORE, INPUT, FIRST_STEP, STEP, VALIDATION, CHECKPOINTING, TRACE, OTHER)
        self.seconds = dict.fromkeys(parts, 0.0)
        self.wall_seconds = 0.0
        self.steps = self.utterances = self.samples = self.padded_samples = 0
        self._begun = time.perf_counter()
        self._step_begun = self._requested = self._waited = 0.0
        self._is_tracing = False

    @property
    def padding(self) -> float:
        """Share of the samples of all batches that is padding."""
        return self.padded_samples / max(self.samples, 1)

    @property
    def learning_seconds(self) -> float:
        """Seconds of all steps, and of waiting for their batches."""
        return sum(self.seconds[part] for part in (INPUT, FIRST_STEP, STEP))

    def watch(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Passes on training batches and measures how long the step waits for each."""

        def requested(number: tf.Tensor) -> tf.Tensor:
            tf.numpy_function(self._note_request, [], [])
            return number

        def arrived(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            length = tf.shape(batch["waveform"])[1]
            # Rows of weight zero are padding; see `padding.filled`.
            is_utterance = tf.reduce_any(batch["weights"] > 0, 1)
            num_samples = tf.where(is_utterance, batch["num_samples"], 0)
            tf.numpy_function(self._note_arrival, [num_samples, length], [])
            return batch

        requests = tf.data.Dataset.counter().map(requested)
        options = tf.data.Options()
        # A prefetch behind these stages would hide how long the step waits.
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.zip(requests, batches).map(arrived).with_options(options)

    def timing(self, callback: keras.callbacks.Callback, part: str) -> keras.callbacks.Callback:
        """Wraps a callback so that its time counts as `part`."""
        return _Timed(callback, self.seconds, part)

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.steps:
            self.seconds[BEFORE] = time.perf_counter() - self._begun

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.trace_directory and self.steps == _TRACED_STEPS.start:
            tf.profiler.experimental.start(str(self.trace_directory))
            self._is_tracing = True
        self._step_begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        part = STEP if self.steps else FIRST_STEP
        self.seconds[part] += time.perf_counter() - self._step_begun - self._waited
        self.seconds[INPUT] += self._waited
        self._waited = 0.0
        self.steps += 1
        if self.steps == _TRACED_STEPS.stop:
            self._stop_tracing()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._stop_tracing()
        self.wall_seconds = time.perf_counter() - self._begun
        known = sum(seconds for part, seconds in self.seconds.items() if part != OTHER)
        self.seconds[OTHER] = self.wall_seconds - known

    def _note_request(self) -> None:
        self._requested = time.perf_counter()

    def _note_arrival(self, num_samples: np.ndarray, length: np.ndarray) -> None:
        # Called for each replica of this worker, so one step may add several waits.
        self._waited += time.perf_counter() - self._requested
        self.utterances += int(np.count_nonzero(num_samples))
        self.samples += len(num_samples) * int(length)
        self.padded_samples += int((length - num_samples).sum())

    def _stop_tracing(self) -> None:
        if self._is_tracing:
            self._is_tracing = False
            begun = time.perf_counter()
            tf.profiler.experimental.stop()
            self.seconds[TRACE] += time.perf_counter() - begun


class _Timed(keras.callbacks.Callback):
    """Calls another callback and counts its time as one part of a profile."""

    def __init__(
        self, callback: keras.callbacks.Callback, seconds: dict[str, float], part: str
    ) -> None:
        super().__init__()
        self.callback, self.seconds, self.part = callback, seconds, part

    def set_params(self, params: dict) -> None:
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        self.callback.set_model(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.callback.on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        begun = time.perf_counter()
        self.callback.on_train_batch_end(batch, logs)
        self.seconds[self.part] += time.perf_counter() - begun

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        begun = time.perf_counter()
        self.callback.on_epoch_end(epoch, logs)
        self.seconds[self.part] += time.perf_counter() - begun
