"""Makes batches of audio from shards, for decoding."""

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

# Number of batches that are read ahead of the search, enough to hide the opening of a shard.
_BATCHES_AHEAD = 4
_PARALLEL_UTTERANCES = 2
_WHOLE_SHARD = 2**31 - 1


def audio_batches(
    store: Store, batch_size: int, *, shards: Sequence[int] | None = None
) -> tf.data.Dataset:
    """Makes batches for decoding, in a fixed order, of utterances of similar length.

    A batch holds utterances of one shard, so its content depends on the shard alone. The longest
    utterances of a shard come first; only its last batch may be smaller. The next shard is opened
    while one is decoded.

    Args:
      store: utterances or pseudo labels.
      batch_size: B.
      shards: numbers of the shards to read; all by default.
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
    # A private thread: in TensorFlow's shared pool, reading would block the search.
    options.threading.private_threadpool_size = 1
    batches = dataset.flat_map(batches_of).prefetch(_BATCHES_AHEAD).with_options(options)
    return without_autotuning(batches)


def without_autotuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off tf.data's autotuning, so that reading ends without delay.

    Our pipelines have nothing to tune, but the tuning thread sleeps for up to a minute, and the end
    of each epoch waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def by_shard(
    numbers: Iterable[int], batches: Iterable[dict[str, tf.Tensor]]
) -> Iterator[tuple[int, Iterable[dict[str, tf.Tensor]]]]:
    """Groups `audio_batches` of the shards `numbers` by shard.

    Yields:
      Each number with the batches of that shard, which must be read before the next number is
      taken; an empty shard has no batches.
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
    """Sorts the records [n] of a shard by falling length; equal ones keep their order."""
    feature = {records.NUM_SAMPLES: tf.io.FixedLenFeature([], tf.int64)}
    num_samples = tf.io.parse_example(serialised, feature)[records.NUM_SAMPLES]
    order = tf.argsort(num_samples, direction="DESCENDING", stable=True)
    return tf.data.Dataset.from_tensor_slices(tf.gather(serialised, order))


def _decode(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses an utterance and decodes its audio to float32."""
    audio, example = _parse(serialised)
    waveform = tf.numpy_function(decode_flac, [audio], tf.float32)
    return {**example, "waveform": tf.ensure_shape(waveform, [None])}


def _parse(serialised: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Parses the encoded audio of an utterance and the other fields of a batch."""
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
    """Selects the ids of at most `count` utterances, evenly from the shortest to the longest.

    Args:
      index: rows of a store's index.
    """
    by_length = sorted(index, key=lambda row: (row["num_samples"], row["utterance_id"]))
    picks = np.linspace(0, len(by_length) - 1, min(count, len(by_length))).round().astype(int)
    return {by_length[pick]["utterance_id"] for pick in picks}
