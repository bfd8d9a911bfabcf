"""Batches for decoding hold each utterance once, with the very samples that were stored."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import soundfile

from tfkd.data.audio_batches import audio_batches, by_shard
from tfkd.records import Store


def samples_of(store: Store) -> dict[str, np.ndarray]:
    """What libsndfile decodes, by utterance."""
    records = (getattr(record, "utterance", record) for record in store.records())
    return {
        record.utterance_id: soundfile.read(io.BytesIO(record.audio), dtype="float32")[0]
        for record in records
    }


def rows_of(batches: Iterable[dict]) -> Iterator[dict[str, np.ndarray]]:
    for batch in batches:
        for row in range(len(batch["num_samples"])):
            yield {name: values[row].numpy() for name, values in batch.items()}


def test_every_utterance_comes_once_bit_by_bit(prepared):
    store = prepared["train"]
    expected = samples_of(store)
    rows = list(rows_of(audio_batches(store, 4)))
    assert sorted(row["utterance_id"].decode() for row in rows) == sorted(expected)
    for row in rows:
        samples = expected[row["utterance_id"].decode()]
        assert row["waveform"].dtype == np.float32
        assert row["num_samples"] == samples.size
        np.testing.assert_array_equal(row["waveform"][: samples.size], samples)
        np.testing.assert_array_equal(row["waveform"][samples.size :], 0)


def test_text_comes_along(prepared):
    store = prepared["train"]
    texts = {row["utterance_id"]: row["text"] for row in store.index}
    for row in rows_of(audio_batches(store, 4)):
        assert row["text"].decode() == texts[row["utterance_id"].decode()]
        assert row["has_text"]


def test_each_shard_gives_full_batches_from_long_to_short(prepared):
    store = prepared["train"]
    batches = list(audio_batches(store, 3))
    assert [len(batch["shard"]) for batch in batches] == [3, 1] * 6
    for batch in batches:
        assert batch["waveform"].shape[1] == batch["num_samples"].numpy().max()
    rows = list(rows_of(batches))
    for number, path in enumerate(store.shard_paths):
        planned = [row for row in store.index if row["shard"] == path.name]
        expected = sorted(planned, key=lambda row: -row["num_samples"])
        found = [row["utterance_id"].decode() for row in rows if row["shard"] == number]
        assert found == [row["utterance_id"] for row in expected]


def test_the_order_for_decoding_is_fixed(prepared):
    batches = audio_batches(prepared["train"], 4)
    first, second = ([row["utterance_id"] for row in rows_of(batches)] for _ in range(2))
    assert first == second


def test_some_shards_give_their_utterances_alone(prepared):
    store = prepared["train"]
    rows = list(rows_of(audio_batches(store, 4, shards=[4, 1])))
    assert [row["shard"] for row in rows] == [4] * 4 + [1] * 4
    found = [row["utterance_id"].decode() for row in rows]
    assert set(found[:4]) == set(store.plan.shards[4])
    assert set(found[4:]) == set(store.plan.shards[1])
    assert list(audio_batches(store, 4, shards=[])) == []


def test_batches_of_a_shard_do_not_depend_on_its_company(prepared):
    store = prepared["train"]
    numbers = range(len(store.shard_paths))
    alone = [rows_of(audio_batches(store, 3, shards=[number])) for number in numbers]
    for row, expected in zip(
        rows_of(audio_batches(store, 3)), itertools.chain(*alone), strict=True
    ):
        for name in expected:
            np.testing.assert_array_equal(row[name], expected[name])


def test_shards_without_utterances_have_no_batches():
    batches = [{"shard": np.array([number])} for number in (2, 2, 5)]
    found = {number: len(list(own)) for number, own in by_shard([1, 2, 3, 5, 6], batches)}
    assert found == {1: 0, 2: 2, 3: 0, 5: 1, 6: 0}
