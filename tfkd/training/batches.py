"""The batches of a training: planned from lengths alone, loaded while the step computes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import tensorflow as tf

from tfkd.config import ObjectiveConfig, TrainingConfig
from tfkd.data.audio_batches import without_autotuning
from tfkd.data.augmentation import SpeedChange, draw_speed
from tfkd.data.batch_plan import plan_batches
from tfkd.errors import RecordError
from tfkd.objectives.targets import Dropped, Targets, survey, targets_of
from tfkd.records import RandomAccess, Store
from tfkd.text import PAD_ID, Tokenizer

# Decoded audio that is kept in memory: 9 hours at 16 kHz. What is beyond is decoded in each epoch.
_CACHE_BYTES = 2**30
# Batches that are loaded at the same time, and that wait for the step.
_PARALLEL_BATCHES = 2
_BATCHES_AHEAD = 4
_FULL_SCALE = 2**15


class Example(NamedTuple):
    """One utterance to learn from.

    Attributes:
      waveform: [N] int16.
      token_ids: [K, U] int32, padded with pad.
      weights: [K] float32.
    """

    waveform: np.ndarray
    token_ids: np.ndarray
    weights: np.ndarray


class Examples:
    """Utterances with weighted targets by their place in the store's index.

    The first ones, up to `_CACHE_BYTES` of audio, stay in memory once they were decoded.
    """

    def __init__(self, store: Store, tokenizer: Tokenizer, objective: ObjectiveConfig) -> None:
        self.tokenizer, self.objective = tokenizer, objective
        self._records = RandomAccess(store)
        sizes = [np.dtype(np.int16).itemsize * row["num_samples"] for row in store.index]
        self._num_kept = int(np.searchsorted(np.cumsum(sizes), _CACHE_BYTES, side="right"))
        self._kept: dict[int, Example] = {}

    def __getitem__(self, place: int) -> Example:
        if (kept := self._kept.get(place)) is not None:
            return kept
        example = self._load(place)
        if place < self._num_kept:
            self._kept[place] = example
        return example

    def _load(self, place: int) -> Example:
        record = self._records[place]
        targets = targets_of(record, self.tokenizer, self.objective)
        if isinstance(targets, Dropped):
            raise RecordError("gives no target", utterance_id=record.utterance_id)
        utterance = record.utterance
        waveform, _ = soundfile.read(io.BytesIO(utterance.audio), dtype="int16")
        return Example(waveform, *_padded(targets, self.num_places))

    @property
    def num_places(self) -> int:
        """K: room for so many targets, of which some may be empty."""
        return 1 if self.objective.kind == "truth" else self.objective.num_hypotheses


class TrainingEpochs:
    """The batches of every epoch, which depend on the settings and the epoch's number alone.

    Args:
      store: utterances, or pseudo labels where the objective is seq_kd.
      without: ids of the utterances that give no target; `objectives.targets.survey` finds
        them if they are not known yet.
    """

    def __init__(
        self,
        store: Store,
        tokenizer: Tokenizer,
        training: TrainingConfig,
        without: Collection[str] | None = None,
    ) -> None:
        if without is None:
            dropped = survey(store.records(), tokenizer, training.objective).dropped
            without = {each.utterance_id for each in dropped}
        self.training, self.tokenizer = training, tokenizer
        self._examples = Examples(store, tokenizer, training.objective)
        self._utterance_ids = [row["utterance_id"] for row in store.index]
        self._num_samples = np.array([row["num_samples"] for row in store.index])
        self._places = np.flatnonzero([name not in without for name in self._utterance_ids])
        longest = int(self._num_samples.max())
        self._error: Exception | None = None
        self._speeds = [SpeedChange(factor, longest) for factor in training.speed_factors]

    @property
    def num_batches(self) -> int:
        """Batches of one epoch; all epochs have as many."""
        return -(-len(self._places) // self.training.batch_size)

    @property
    def total_batches(self) -> int:
        """Batches of all epochs together, so optimizer steps of the whole training."""
        return self.training.epochs * self.num_batches

    def batches(self, epoch: int, first: int = 0) -> tf.data.Dataset:
        """Batches of one epoch from number `first` on: each utterance once, in random order.

        An epoch gives the same batches each time that it is read, so that a killed one can go on
        in its middle; nothing before `first` is loaded.

        Returns:
          Dataset of utterance_id [B] string, waveform [B, N] float32, num_samples [B] int32,
          token_ids [B, K, U] int32 (padded with pad, K = objective.num_hypotheses for seq_kd and 1
          for truth) and weights [B, K] float32.
        """
        speeds = self._speeds_of(epoch)
        num_places = self._examples.num_places
        kinds = {"utterance_id": tf.string, "waveform": tf.float32, "num_samples": tf.int32,
                 "token_ids": tf.int32, "weights": tf.float32}  # fmt: skip
        shapes = [[None], [None, None], [None], [None, num_places, None], [None, num_places]]

        def load(places: np.ndarray) -> tuple[np.ndarray, ...]:
            try:
                return self._load(places, [speeds[place] for place in places])
            except Exception as error:
                self._error = error
                raise

        def load_tensors(places: tf.Tensor) -> dict[str, tf.Tensor]:
            found = tf.numpy_function(load, [places], list(kinds.values()))
            return dict(zip(kinds, map(tf.ensure_shape, found, shapes)))

        dataset = tf.data.Dataset.from_tensor_slices(self._plan(epoch, speeds)[first:])
        dataset = dataset.map(
            load_tensors, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True
        )
        return without_autotuning(dataset.prefetch(_BATCHES_AHEAD))

    @contextlib.contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises what loading a batch has met, in place of what TensorFlow makes of it."""
        try:
            yield
        except tf.errors.OpError:
            if self._error is None:
                raise
            raise self._error from None

    def utterance_ids(self, epoch: int, batch: int) -> list[str]:
        """Who is in a batch of an epoch; nothing is loaded for it."""
        places = self._plan(epoch, self._speeds_of(epoch))[batch]
        return [self._utterance_ids[place] for place in places.numpy()]

    def _speeds_of(self, epoch: int) -> list[SpeedChange]:
        """The speed of each utterance of the store in an epoch."""
        seed = self.training.seed + epoch
        drawn = draw_speed(self._utterance_ids, self.training.speed_factors, seed)
        return [self._speeds[number] for number in drawn]

    def _plan(self, epoch: int, speeds: list[SpeedChange]) -> tf.RaggedTensor:
        """The places of the utterances of each batch of an epoch."""
        lengths = np.array([speed.length(n) for speed, n in zip(speeds, self._num_samples)])
        generator = np.random.default_rng(self.training.seed + epoch)
        batches = plan_batches(lengths[self._places], self.training.batch_size, generator)
        places = self._places[np.concatenate(batches)]
        return tf.RaggedTensor.from_row_lengths(places, [len(batch) for batch in batches])

    def _load(self, places: np.ndarray, speeds: list[SpeedChange]) -> tuple[np.ndarray, ...]:
        examples = [self._examples[int(place)] for place in places]
        num_samples = [speed.length(each.waveform.size) for speed, each in zip(speeds, examples)]
        waveform = np.zeros((len(examples), max(num_samples)), np.float32)
        for row, length, speed, each in zip(waveform, num_samples, speeds, examples):
            row[:length] = speed(each.waveform * np.float32(1 / _FULL_SCALE))
        most_tokens = max(each.token_ids.shape[1] for each in examples)
        token_ids = np.stack([_widened(each.token_ids, most_tokens) for each in examples])
        return (
            np.array([self._utterance_ids[place].encode() for place in places], object),
            waveform,
            np.array(num_samples, np.int32),
            token_ids,
            np.stack([each.weights for each in examples]),
        )


def _padded(targets: Targets, num_places: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids [K, U] and weights [K] of targets, of which there may be fewer than K."""
    token_ids = np.full((num_places, max(map(len, targets.token_ids))), PAD_ID, np.int32)
    for place, ids in enumerate(targets.token_ids):
        token_ids[place, : len(ids)] = ids
    weights = np.zeros(num_places, np.float32)
    weights[: len(targets.weights)] = targets.weights
    return token_ids, weights


def _widened(token_ids: np.ndarray, length: int) -> np.ndarray:
    missing = length - token_ids.shape[1]
    return np.pad(token_ids, [(0, 0), (0, missing)], constant_values=PAD_ID)
