"""TensorFlow Datasets reads a store as it lies there, every value as the store itself has it."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfkd import records
from tfkd.config import PrepareConfig
from tfkd.corpora import Rejection
from tfkd.data.preparation import prepare
from tfkd.records import (
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    Record,
    Store,
    StoreWriter,
    UtteranceRecord,
    open_store,
    read_records,
)
from tfkd.records.tfds import DATASET_INFO, FEATURES

tfds = pytest.importorskip("tensorflow_datasets")
# TensorFlow Datasets decodes FLAC with tensorflow-io, which later Pythons do not have: there the
# audio stays encoded.
DECODES = importlib.util.find_spec("tensorflow_io") is not None


def loaded(store: Store, **settings: Any) -> Iterator[dict[str, Any]]:
    builder = tfds.builder_from_directory(store.directory)
    if not DECODES:
        settings.setdefault("decoders", {"audio": tfds.decode.SkipDecoding()})
    # In the order of the shards: by default TensorFlow Datasets mixes several of them.
    config = tfds.ReadConfig(interleave_cycle_length=1)
    return tfds.as_numpy(builder.as_dataset(split="train", read_config=config, **settings))


def samples_of(audio: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(audio), dtype="int16")[0]


def assert_same_audio(found: np.ndarray | bytes, utterance: UtteranceRecord) -> None:
    if isinstance(found, bytes):
        assert not DECODES
        assert found == utterance.audio
    else:
        assert found.dtype == np.int16
        assert len(found) == utterance.num_samples
        np.testing.assert_array_equal(found, samples_of(utterance.audio))


def texts(values: Sequence[str | None]) -> list[bytes]:
    return [value.encode() for value in values if value is not None]


def assert_same_utterance(found: dict[str, Any], utterance: UtteranceRecord) -> None:
    assert found["utterance_id"] == utterance.utterance_id.encode()
    assert found["num_samples"] == utterance.num_samples
    assert found["sample_rate_hz"] == utterance.sample_rate_hz
    assert_same_audio(found["audio"], utterance)
    assert found["text"].tolist() == texts([utterance.text])
    assert found["speaker"].tolist() == texts([utterance.speaker])


def assert_same_hypotheses(found: dict[str, Any], hypotheses: Sequence[Hypothesis]) -> None:
    assert found["text"].tolist() == texts([each.text for each in hypotheses])
    assert found["num_tokens"].tolist() == [each.num_tokens for each in hypotheses]
    assert found["finish_reason"].tolist() == texts([each.finish_reason for each in hypotheses])
    assert found["written"].tolist() == texts([each.written for each in hypotheses])
    for name in ("log_prob", "total", "score", "coverage"):
        values = [getattr(each, name) for each in hypotheses]
        assert found[name].tolist() == [value for value in values if value is not None]
    for name in ("token_ids", "token_log_probs", "token_seconds"):
        flat = [value for each in hypotheses for value in getattr(each, name)]
        assert found[name].tolist() == flat


def assert_same(found: dict[str, Any], record: Record) -> None:
    if isinstance(record, PseudoLabelRecord):
        assert_same_hypotheses(found["hypotheses"], record.hypotheses)
    utterance = record.utterance if isinstance(record, PseudoLabelRecord) else record
    assert_same_utterance(found, utterance)


def assert_store_is_read(store: Store) -> None:
    rows = list(loaded(store))
    assert len(rows) == store.summary.records
    for found, record in zip(rows, store.records(), strict=True):
        assert_same(found, record)


def test_every_value_of_every_utterance(prepared):
    for store in prepared.values():
        assert_store_is_read(store)


def test_every_value_of_every_pseudo_label(labels):
    assert_store_is_read(labels)


@pytest.mark.skipif(not DECODES, reason="TensorFlow Datasets needs tensorflow-io for audio")
def test_types_and_shapes_are_declared(labels):
    spec = tfds.builder_from_directory(labels.directory).as_dataset(split="train").element_spec
    hypotheses = {
        "text": tf.string,
        "token_ids": tf.int64,
        "num_tokens": tf.int64,
        "log_prob": tf.float32,
        "total": tf.float32,
        "written": tf.string,
        "top_token_ids": tf.string,
        "top_log_probs": tf.string,
        "score": tf.float32,
        "token_log_probs": tf.float32,
        "token_seconds": tf.float32,
        "finish_reason": tf.string,
        "coverage": tf.float32,
    }
    assert spec == {
        "utterance_id": tf.TensorSpec([], tf.string),
        "audio": tf.TensorSpec([None], tf.int16),
        "num_samples": tf.TensorSpec([], tf.int64),
        "sample_rate_hz": tf.TensorSpec([], tf.int64),
        "text": tf.TensorSpec([None], tf.string),
        "speaker": tf.TensorSpec([None], tf.string),
        "hypotheses": {name: tf.TensorSpec([None], t) for name, t in hypotheses.items()},
    }


def test_audio_can_be_left_encoded(prepared):
    store = prepared["test"]
    rows = loaded(store, decoders={"audio": tfds.decode.SkipDecoding()})
    assert [row["audio"] for row in rows] == [record.audio for record in store.records()]


def test_sizes_are_those_of_the_shards(labels):
    info = tfds.builder_from_directory(labels.directory).info
    assert (info.name, str(info.version)) == ("pseudo_labels", "2.0.0")
    assert list(info.splits) == ["train"]
    split = info.splits["train"]
    # The seventh was planned for the recording that is missing.
    assert split.shard_lengths == [4, 4, 4, 4, 4, 4, 0]
    assert split.num_examples == labels.summary.records == 24
    assert sorted(map(str, split.filepaths)) == sorted(map(str, labels.shard_paths))
    payloads = [payload for path in labels.shard_paths for payload in read_records(path)]
    assert split.num_bytes == info.dataset_size == sum(map(len, payloads))


def test_splits_can_be_sliced(labels):
    builder = tfds.builder_from_directory(labels.directory)
    ids = [row["utterance_id"] for row in labels.index]
    encoded = {"audio": tfds.decode.SkipDecoding()}
    part = tfds.as_numpy(builder.as_dataset(split="train[6:10]", decoders=encoded))
    assert sorted(row["utterance_id"].decode() for row in part) == ids[6:10]


SAMPLES = np.arange(-800, 800, dtype=np.int16)


def written(directory: Path, made: list[Record], *, rejected: Sequence[str] = ()) -> Store:
    ids = [*(record.utterance_id for record in made), *rejected]
    plan = Plan.create(records.PSEUDO_LABELS, ids, "", {}, 1)
    by_id = {record.utterance_id: record for record in made}
    with StoreWriter(directory, plan) as writer:
        for number, (utterance_id,) in enumerate(plan.shards):
            if utterance_id in by_id:
                writer.write_shard(number, [by_id[utterance_id]])
            else:
                writer.write_shard(number, [], [Rejection(utterance_id, "silent", "", "")])
        writer.complete()
    return open_store(directory)


def utterance(utterance_id: str, path: Path, **optional: str) -> UtteranceRecord:
    soundfile.write(path, SAMPLES, 8000, subtype="PCM_16")
    return UtteranceRecord(utterance_id, path.read_bytes(), len(SAMPLES), 8000, **optional)


def test_what_only_some_labels_hold_is_read(tmp_path):
    """The posteriors are bytes, [num_tokens, M] of them for each hypothesis."""
    top = {"top_token_ids": ((7, 5), (3, 7)), "top_log_probs": ((-0.5, -1.0), (-0.25, -2.0))}
    full = Hypothesis("y", (7, 3), -0.75, total=-1.25, written="Y.", **top)
    utterances = [utterance(name, tmp_path / "a.flac") for name in ("bare", "full")]
    made = [PseudoLabelRecord(utterances[0], (Hypothesis("x"),))]
    made.append(PseudoLabelRecord(utterances[1], (full, full)))
    store = written(tmp_path / "store", made)
    assert_store_is_read(store)
    rows = [row["hypotheses"] for row in loaded(store)]
    for name, values in top.items():
        dtype = "<u2" if name == "top_token_ids" else "<f2"
        assert rows[0][name].size == 0
        assert rows[1][name].tolist() == 2 * [np.array(values, dtype).tobytes()]


def test_what_is_absent_or_unknown_is_empty(tmp_path):
    flac = tmp_path / "a.flac"
    bare = PseudoLabelRecord(utterance("bare", flac), (Hypothesis("x"), Hypothesis("")))
    spoken = utterance("ünï", flac, text="", speaker="s")
    partly = PseudoLabelRecord(spoken, (Hypothesis("y", (7, 3), -0.5, finish_reason="eos"),))
    store = written(tmp_path / "store", [bare, partly], rejected=["lost"])
    assert_store_is_read(store)
    first, second = loaded(store)
    assert_same_audio(first["audio"], bare.utterance)
    assert samples_of(bare.utterance.audio).tolist() == SAMPLES.tolist()
    assert (first["text"].size, first["speaker"].size) == (0, 0)
    assert first["hypotheses"]["text"].tolist() == [b"x", b""]
    assert first["hypotheses"]["num_tokens"].tolist() == [0, 0]
    assert first["hypotheses"]["log_prob"].size == 0
    assert second["text"].tolist() == [b""]
    assert second["hypotheses"]["token_ids"].tolist() == [7, 3]
    assert second["hypotheses"]["token_seconds"].size == 0


def test_an_empty_store_can_be_described(tmp_path):
    for rejected in ([], ["lost"]):
        store = written(tmp_path / f"{len(rejected)}", [], rejected=rejected)
        split = tfds.builder_from_directory(store.directory).info.splits["train"]
        assert split.shard_lengths == [0] * len(rejected)


def test_the_description_is_what_tensorflow_datasets_would_write(labels):
    """Read, and written again by its own code: nothing of ours was passed over."""
    builder = tfds.builder_from_directory(labels.directory)
    ours = json.loads((labels.directory / DATASET_INFO).read_text())
    assert {name: json.loads(builder.info.as_json)[name] for name in ours} == ours
    features = json.loads((labels.directory / FEATURES).read_text())
    restored = tfds.features.FeatureConnector.from_json(features)
    assert restored.get_tensor_info() == builder.info.features.get_tensor_info()
    assert str(restored) == str(builder.info.features)


def test_plain_tensorflow_reads_token_rows(labels):
    """The recipe of docs/guide/labels.md."""
    declared = {
        "utterance_id": tf.io.FixedLenFeature([], tf.string),
        "hypotheses/token_ids": tf.io.RaggedFeature(tf.int64),
        "hypotheses/num_tokens": tf.io.RaggedFeature(tf.int64),
    }
    files = tf.data.TFRecordDataset([str(path) for path in labels.shard_paths])
    for serialised, record in zip(files, labels.records(), strict=True):
        example = tf.io.parse_single_example(serialised, declared)
        rows = tf.RaggedTensor.from_row_lengths(
            example["hypotheses/token_ids"], example["hypotheses/num_tokens"]
        )
        assert rows.to_list() == [list(each.token_ids) for each in record.hypotheses]


@pytest.mark.slow
def test_real_speech(shared_data, tmp_path):
    source = shared_data / "digits"
    lines = (source / "test.jsonl").read_text().splitlines()[:12]
    rows = [json.loads(line) for line in lines]
    manifest = tmp_path / "real.jsonl"
    manifest.write_text(
        "".join(json.dumps(row | {"audio": str(source / row["audio"])}) + "\n" for row in rows)
    )
    prepare(manifest, tmp_path / "store", PrepareConfig())
    assert_store_is_read(open_store(tmp_path / "store"))
