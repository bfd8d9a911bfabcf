"""Shards to batches for decoding."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd import records
from tfkd.audio.flac import decode_flac
from tfkd.records import Store

# Batches that are read and decoded ahead of the search; enough to open the next shard meanwhile.
_BATCHES_AHEAD = 4
_PARALLEL_UTTERANCES = 2
_WHOLE_SHARD = 2**31 - 1


def audio_batches(
    store: Store, batch_size: int, *, shards: Sequence[int] | None = None
) -> tf.data.Dataset:
    """Batches for decoding, in a fixed order, neighbours of like length together.

    No batch crosses the end of a shard, so what a batch holds depends on its shard alone. A shard
    gives its longest utterances first; only its last batch, the cheapest, may be smaller. While one
    shard is decoded the next is opened.

    Args:
      shards: numbers of some of the store's shards; all by default.
    Returns:
      Dataset of utterance_id [B] string, waveform [B, N] float32, num_samples [B] int32,
      text [B] string, has_text [B] bool and shard [B] int32, the number of their shard.

    >>> batches = tfkd.audio_batches(tfkd.open_store("work/data/test"), 2)
    >>> next(iter(batches))["num_samples"].shape
    TensorShape([2])
    """
    paths = store.shard_paths
    numbers = range(len(paths)) if shards is None else shards
    names = [os.fsencode(paths[number]) for number in numbers]
    dataset = tf.data.Dataset.from_tensor_slices(
        (tf.constant(list(numbers), tf.int32), tf.constant(names, tf.string))
    )

    def batches_of(number: tf.Tensor, path: tf.Tensor) -> tf.data.Dataset:
        shard = tf.data.TFRecordDataset(path).batch(_WHOLE_SHARD).flat_map(_longest_first)
        decoded = shard.map(
            lambda serialised: {**_decode(serialised), "shard": number},
            num_parallel_calls=_PARALLEL_UTTERANCES,
        )
        return decoded.padded_batch(batch_size)

    options = tf.data.Options()
    # Or else reading takes turns with the search in TensorFlow's pool, and the search waits.
    options.threading.private_threadpool_size = 1
    batches = dataset.flat_map(batches_of).prefetch(_BATCHES_AHEAD).with_options(options)
    return without_autotuning(batches)


def without_autotuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches, whose reading ends at once when it is over.

    TensorFlow's tuning of a pipeline, of which ours have nothing to tune, wakes at ever longer
    intervals, up to a minute, and the end of each epoch waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def by_shard(
    numbers: Iterable[int], batches: Iterable[dict[str, tf.Tensor]]
) -> Iterator[tuple[int, Iterable[dict[str, tf.Tensor]]]]:
    """Cuts `audio_batches` of the shards `numbers` at the ends of shards.

    Yields:
      Each number with the batches of that shard, which must be used up before the next number is
      asked for; a shard without an utterance has no batches.
    """
    groups = itertools.groupby(batches, key=lambda batch: int(batch["shard"][0]))
    following = next(groups, None)
    for number in numbers:
        if following is None or following[0] != number:
            yield number, ()
        else:
            yield number, following[1]
            following = next(groups, None)


def _longest_first(serialised: tf.Tensor) -> tf.data.Dataset:
    """The records of a shard [n], by falling length; those of equal length stay in order."""
    feature = {records.NUM_SAMPLES: tf.io.FixedLenFeature([], tf.int64)}
    num_samples = tf.io.parse_example(serialised, feature)[records.NUM_SAMPLES]
    order = tf.argsort(num_samples, direction="DESCENDING", stable=True)
    return tf.data.Dataset.from_tensor_slices(tf.gather(serialised, order))


def _decode(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    """An utterance with its samples as float32."""
    audio, example = _parse(serialised)
    waveform = tf.numpy_function(decode_flac, [audio], tf.float32)
    return {**example, "waveform": tf.ensure_shape(waveform, [None])}


def _parse(serialised: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The encoded audio of an utterance, and what else batches tell of it."""
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
    return example[records.AUDIO], {
        "utterance_id": example[records.UTTERANCE_ID],
        "num_samples": tf.cast(example[records.NUM_SAMPLES], tf.int32),
        "text": tf.strings.reduce_join(text),
        "has_text": tf.size(text) > 0,
    }


def spread_over_lengths(index: Iterable[Mapping[str, Any]], count: int) -> set[str]:
    """Ids of at most `count` utterances, from the shortest to the longest.

    Args:
      index: rows of a store's index.
    """
    by_length = sorted(index, key=lambda row: (row["num_samples"], row["utterance_id"]))
    picks = np.linspace(0, len(by_length) - 1, min(count, len(by_length))).round().astype(int)
    return {by_length[pick]["utterance_id"] for pick in picks}
