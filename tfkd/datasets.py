"""Shards to batches: decoding, augmentation, buckets by length, shuffling."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_io as tfio

from tfkd import records
from tfkd.config import ObjectiveConfig, TrainingConfig
from tfkd.records import Store
from tfkd.records.schema import RECORD_TYPES
from tfkd.targets import Dropped, targets_of
from tfkd.text import PAD_ID, Tokenizer

# Neighbouring bucket bounds differ by this factor: at most 13 % of a batch is padding, half on
# average.
_BUCKET_GROWTH = 1.15
# Decoded audio is kept in memory where the whole corpus needs no more than this (9 hours).
_CACHE_BYTES = 2**30
_BYTES_PER_SAMPLE = 2
_SHUFFLE_BUFFER = 4096


def audio_batches(
    store: Store, batch_size: int, *, shard_paths: Sequence[Path] | None = None
) -> tf.data.Dataset:
    """Batches for decoding, in a fixed order, neighbours of like length together.

    Args:
      shard_paths: some of the store's shards; all by default.
    Returns:
      Dataset of utterance_id [B] string, waveform [B, N] float32, num_samples [B] int32,
      text [B] string and has_text [B] bool.
    """
    dataset = _serialised(shard_paths or store.shard_paths)
    dataset = dataset.map(_decode, num_parallel_calls=tf.data.AUTOTUNE).map(_to_float)
    return _bucket(dataset, store, batch_size).prefetch(2)


def training_batches(
    store: Store,
    tokenizer: Tokenizer,
    objective: ObjectiveConfig,
    training: TrainingConfig,
    *,
    seed: int,
) -> tf.data.Dataset:
    """One epoch's batches, as `shuffled_batches` draws them."""
    examples = training_examples(store, tokenizer, objective)
    return shuffled_batches(examples, store, training, seed=seed)


def training_examples(
    store: Store, tokenizer: Tokenizer, objective: ObjectiveConfig
) -> tf.data.Dataset:
    """Utterances with weighted targets in the store's order, kept in memory where they fit.

    Utterances without a target are left out; `tfkd.targets.survey` names them beforehand.

    Returns:
      Dataset of utterance_id string, waveform [N] int16, token_ids [K, U] int32 (padded with pad,
      K = objective.num_hypotheses for seq_kd and 1 for truth) and weights [K] float32.
    """
    places = 1 if objective.kind == "truth" else objective.num_hypotheses
    record_type = RECORD_TYPES[store.kind]

    def choose(serialised: bytes) -> tuple[np.ndarray, np.ndarray]:
        targets = targets_of(record_type.from_example_bytes(serialised), tokenizer, objective)
        weights = np.zeros(places, np.float32)
        if isinstance(targets, Dropped):
            return np.zeros((places, 1), np.int32), weights
        length = max(map(len, targets.token_ids))
        token_ids = np.full((places, length), PAD_ID, np.int32)
        for place, ids in enumerate(targets.token_ids):
            token_ids[place, : len(ids)] = ids
        weights[: len(targets.weights)] = targets.weights
        return token_ids, weights

    def add_targets(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids, weights = tf.numpy_function(choose, [serialised], [tf.int32, tf.float32])
        audio = _decode(serialised)
        return {
            "utterance_id": audio["utterance_id"],
            "waveform": audio["waveform"],
            "token_ids": tf.ensure_shape(token_ids, [places, None]),
            "weights": tf.ensure_shape(weights, [places]),
        }

    dataset = _serialised(store.shard_paths)
    dataset = dataset.map(add_targets, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.filter(lambda example: tf.reduce_any(example["weights"] > 0))
    if _BYTES_PER_SAMPLE * sum(row["num_samples"] for row in store.index) <= _CACHE_BYTES:
        dataset = dataset.cache()
    return dataset


def shuffled_batches(
    examples: tf.data.Dataset, store: Store, training: TrainingConfig, *, seed: int
) -> tf.data.Dataset:
    """Shuffled, augmented batches of `training_examples`, one pass over them.

    The same seed gives the same batches each time they are read, so that a killed epoch can go on
    in its middle; another epoch wants another seed.

    Returns:
      Dataset of utterance_id [B] string, waveform [B, N] float32, num_samples [B] int32,
      token_ids [B, K, U] int32 and weights [B, K] float32.
    """

    def augment(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        factor = draw_speed(example["utterance_id"], training.speed_factors, seed)
        waveform = change_speed(to_float(example["waveform"]), factor)
        return {**example, "waveform": waveform, "num_samples": tf.shape(waveform)[0]}

    dataset = examples.shuffle(_SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)
    dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = _bucket(dataset, store, training.batch_size)
    return dataset.shuffle(8, seed=seed, reshuffle_each_iteration=False).prefetch(4)


def count_batches(
    store: Store, training: TrainingConfig, *, seed: int, without: Collection[str] = ()
) -> int:
    """How many batches `shuffled_batches` gives; it follows from the index alone.

    Args:
      without: ids of the utterances that give no target.
    """
    rows = [row for row in store.index if row["utterance_id"] not in without]
    if not rows:
        return 0
    factors = draw_speed([row["utterance_id"] for row in rows], training.speed_factors, seed)
    num_samples = samples_at_speed([row["num_samples"] for row in rows], factors)
    bounds = bucket_bounds([row["num_samples"] for row in store.index])
    sizes = np.bincount(np.searchsorted(bounds, num_samples, side="right"))
    return int(np.ceil(sizes / training.batch_size).sum())


class TrainingEpochs:
    """The batches of every epoch, which depend on the settings and the epoch's number alone.

    Args:
      without: ids of the utterances that give no target, which `tfkd.targets.survey` names.
    """

    def __init__(
        self,
        store: Store,
        tokenizer: Tokenizer,
        training: TrainingConfig,
        without: Collection[str] = (),
    ) -> None:
        self.store, self.training, self.without = store, training, without
        self.examples = training_examples(store, tokenizer, training.objective)

    @property
    def total_batches(self) -> int:
        """Batches of all epochs together, so optimizer steps of the whole training."""
        return sum(map(self.num_batches, range(self.training.epochs)))

    def num_batches(self, epoch: int) -> int:
        seed = self.training.seed + epoch
        return count_batches(self.store, self.training, seed=seed, without=self.without)

    def batches(self, epoch: int, first: int = 0) -> tf.data.Dataset:
        """Batches of `shuffled_batches` from number `first` on, whose cardinality is known.

        Where it is unknown, Keras counts one optimizer step too many at the end of each epoch.
        """
        seed = self.training.seed + epoch
        # tf.data mixes the global seed into its own.
        tf.random.set_seed(seed)
        batches = shuffled_batches(self.examples, self.store, self.training, seed=seed)
        remaining = self.num_batches(epoch) - first
        return batches.skip(first).apply(tf.data.experimental.assert_cardinality(remaining))


def draw_speed(utterance_ids: tf.Tensor, factors: Sequence[float], seed: int) -> tf.Tensor:
    """One of `factors` for each id, float32: a hash of id and seed chooses, not the order."""
    keys = tf.strings.join([utterance_ids, str(seed)], separator="\n")
    choice = tf.strings.to_hash_bucket_strong(keys, len(factors), key=[0, 0])
    return tf.gather(tf.constant(factors, tf.float32), choice)


def samples_at_speed(num_samples: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Length of `num_samples` samples that are played `factor` times as fast, int32."""
    return tf.cast(tf.cast(num_samples, tf.float32) / factor, tf.int32)


def change_speed(waveform: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """Plays waveform [N] `factor` times as fast; pitch goes along (Ko et al. 2015).

    Linear interpolation: what it adds is far below the noise of real recordings, and a
    band-limited resampler would cost more than the training step.
    """
    samples = tf.shape(waveform)[0]
    count = samples_at_speed(samples, factor)
    position = tf.cast(tf.range(count), tf.float32) * factor
    left = tf.minimum(tf.cast(position, tf.int32), samples - 1)
    right = tf.minimum(left + 1, samples - 1)
    share = position - tf.cast(left, tf.float32)
    return tf.gather(waveform, left) * (1 - share) + tf.gather(waveform, right) * share


def to_float(waveform: tf.Tensor) -> tf.Tensor:
    """16-bit samples to float32 in [-1, 1)."""
    return tf.cast(waveform, tf.float32) / 32768.0


def _serialised(shard_paths: Sequence[Path]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset([str(path) for path in shard_paths])


def _decode(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    example = tf.io.parse_single_example(
        serialised,
        {
            records.UTTERANCE_ID: tf.io.FixedLenFeature([], tf.string),
            records.AUDIO: tf.io.FixedLenFeature([], tf.string),
            records.NUM_SAMPLES: tf.io.FixedLenFeature([], tf.int64),
            records.TEXT: tf.io.VarLenFeature(tf.string),
        },
    )
    text = example[records.TEXT].values
    samples = tfio.audio.decode_flac(example[records.AUDIO], dtype=tf.int16)
    return {
        "utterance_id": example[records.UTTERANCE_ID],
        "waveform": tf.reshape(samples, [-1]),
        "num_samples": tf.cast(example[records.NUM_SAMPLES], tf.int32),
        "text": tf.strings.reduce_join(text),
        "has_text": tf.size(text) > 0,
    }


def _to_float(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {**example, "waveform": to_float(example["waveform"])}


def _bucket(dataset: tf.data.Dataset, store: Store, batch_size: int) -> tf.data.Dataset:
    bounds = bucket_bounds([row["num_samples"] for row in store.index])
    return dataset.bucket_by_sequence_length(
        lambda example: tf.shape(example["waveform"])[0],
        bounds,
        [batch_size] * (len(bounds) + 1),
        padding_values={
            name: tf.constant(PAD_ID) if name == "token_ids" else None
            for name in dataset.element_spec
        },
    )


def bucket_bounds(num_samples: Sequence[int]) -> list[int]:
    """Bounds of buckets of like length that cover `num_samples`."""
    if not num_samples:
        return [1]
    bounds = [int(min(num_samples) * _BUCKET_GROWTH) + 1]
    while bounds[-1] < max(num_samples):
        bounds.append(int(bounds[-1] * _BUCKET_GROWTH) + 1)
    return bounds


def spread_over_lengths(store: Store, count: int) -> set[str]:
    """Ids of at most `count` utterances, from the shortest to the longest."""
    by_length = sorted(store.index, key=lambda row: (row["num_samples"], row["utterance_id"]))
    picks = np.linspace(0, len(by_length) - 1, min(count, len(by_length))).round().astype(int)
    return {by_length[pick]["utterance_id"] for pick in picks}
