"""Reads stores with TensorFlow operations alone: no Python runs while the data flows.

This file imports TensorFlow and TensorFlow I/O alone, so it can be copied to where tfkd is not
installed, a notebook for example. Its datasets can be sent to the workers of a tf.data service,
which run whatever graph they get, and `dataset.save` writes them where nobody has to decode again.

tfkd itself reads by libsndfile, six times as fast on one thread (docs/decisions/0005); use this
where the reading has to happen in another process, or in somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

_FULL_SCALE = 2**15
# Lists that hold a value for each hypothesis, and those that hold one for each of their tokens.
_BY_HYPOTHESIS = {
    "text": tf.string,
    "num_tokens": tf.int64,
    "log_prob": tf.float32,
    "total": tf.float32,
    "score": tf.float32,
    "finish_reason": tf.string,
    "coverage": tf.float32,
}
_BY_TOKEN = {
    "token_ids": tf.int64,
    "token_log_probs": tf.float32,
    "token_seconds": tf.float32,
}
_NEEDED = (
    "reading in graph needs kernels of tensorflow-io, which run on TensorFlow 2.16 and 2.17 alone: "
    "pip install 'tensorflow>=2.16.2,<2.18' 'tensorflow-io>=0.37.1,<0.38' on Python 3.11 or 3.12; "
    "tfkd.batches and tfkd.audio_batches read without them (here: TensorFlow {}, {})"
)


def read_store_in_graph(
    store: str | Path, *, sample_rate_hz: int | None = None, parallel: int = 2
) -> tf.data.Dataset:
    """Reads the utterances or pseudo labels of a finished store, in its order.

    Args:
      store: folder that `tfkd prepare` or `tfkd label` wrote.
      sample_rate_hz: rate to resample to; by default each utterance keeps its own.
      parallel: utterances that are decoded at the same time.
    Returns:
      Dataset of utterance_id [] string, waveform [N] float32 in [-1, 1], num_samples [] int64,
      sample_rate_hz [] int64, text [] string and has_text [] bool, speaker [] string. A store of
      pseudo labels adds `hypotheses`: text, num_tokens, log_prob, total, score, finish_reason and
      coverage [K], token_ids, token_log_probs and token_seconds [K, None] ragged; what the teacher
      did not tell is empty, [0]. Its length is known, and a store with fewer records raises
      `tf.errors.FailedPreconditionError` at its end.
    Raises:
      FileNotFoundError: if the folder holds no finished store.
      RuntimeError: if TensorFlow I/O's kernels do not run here.

    >>> from tfkd.data.graph_reader import read_store_in_graph
    >>> first = next(iter(read_store_in_graph("work/labels", sample_rate_hz=16000)))
    >>> first["hypotheses"]["token_ids"].shape.rank, int(first["sample_rate_hz"])
    (2, 16000)
    """
    decode_flac, resample = _kernels()
    kind, paths, num_records = _shards_of(Path(store))
    features = _features(kind == "pseudo_labels")

    def read(serialised: tf.Tensor) -> dict[str, Any]:
        example = tf.io.parse_single_example(serialised, features)
        samples = tf.reshape(decode_flac(example["audio"], dtype=tf.int16), [-1])
        waveform = tf.cast(samples, tf.float32) / _FULL_SCALE
        rate = example["sample_rate_hz"]
        if sample_rate_hz is not None:
            waveform = tf.cond(
                tf.equal(rate, sample_rate_hz),
                lambda: waveform,
                lambda: tf.reshape(resample(waveform[:, None], rate, sample_rate_hz), [-1]),
            )
            rate = tf.constant(sample_rate_hz, tf.int64)
        utterance = {
            "utterance_id": example["utterance_id"],
            "waveform": waveform,
            "num_samples": tf.size(waveform, tf.int64),
            "sample_rate_hz": rate,
            "text": tf.strings.reduce_join(example["text"].values),
            "has_text": tf.size(example["text"].values) > 0,
            "speaker": tf.strings.reduce_join(example["speaker"].values),
        }
        if kind == "pseudo_labels":
            utterance["hypotheses"] = _hypotheses(example)
        return utterance

    # One shard after the other: mixed, the order would not be the store's.
    dataset = tf.data.TFRecordDataset([str(path) for path in paths])
    dataset = dataset.map(read, num_parallel_calls=parallel, deterministic=True)
    # TensorFlow takes a file that was cut between two records for a shorter one.
    return dataset.apply(tf.data.experimental.assert_cardinality(num_records))


def _kernels() -> tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]]:
    """The decoder of FLAC and the resampler.

    A kernel is tried: on a TensorFlow that it does not fit, importing the package succeeds.
    """
    try:
        import tensorflow_io as tfio

        tfio.audio.resample(tf.zeros([32, 1]), 16000, 8000)
    except (ImportError, NotImplementedError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:80]
        raise RuntimeError(_NEEDED.format(tf.__version__, reason)) from error
    return tfio.audio.decode_flac, tfio.audio.resample


def _shards_of(store: Path) -> tuple[str, list[Path], int]:
    """The kind of a store, its shards, and how many records they hold together."""
    description = store / "dataset_info.json"
    if not (store / "complete.json").exists() or not description.exists():
        raise FileNotFoundError(f"{store} holds no finished store: run tfkd prepare or tfkd label")
    info = json.loads(description.read_text(encoding="utf-8"))
    kind = info["name"]
    counts = [int(count) for count in info["splits"][0]["shardLengths"]]
    names = [f"{kind}-{n:05d}-of-{len(counts):05d}.tfrecord" for n in range(len(counts))]
    return kind, [store / "shards" / name for name in names], sum(counts)


def _features(has_hypotheses: bool) -> dict[str, Any]:
    features: dict[str, Any] = {
        "utterance_id": tf.io.FixedLenFeature([], tf.string),
        "audio": tf.io.FixedLenFeature([], tf.string),
        "sample_rate_hz": tf.io.FixedLenFeature([], tf.int64),
        "text": tf.io.VarLenFeature(tf.string),
        "speaker": tf.io.VarLenFeature(tf.string),
    }
    if has_hypotheses:
        for name, dtype in (_BY_HYPOTHESIS | _BY_TOKEN).items():
            features[f"hypotheses/{name}"] = tf.io.VarLenFeature(dtype)
    return features


def _hypotheses(example: dict[str, Any]) -> dict[str, Any]:
    values = {name: example[f"hypotheses/{name}"].values for name in _BY_HYPOTHESIS | _BY_TOKEN}
    lengths = values["num_tokens"]
    for name in _BY_TOKEN:
        flat = values[name]
        # Where a teacher did not tell, no hypothesis has a value.
        rows = tf.where(tf.size(flat) > 0, lengths, tf.zeros_like(lengths))
        values[name] = tf.RaggedTensor.from_row_lengths(flat, rows)
    return values
