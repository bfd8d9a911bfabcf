"""Batches hold each utterance once, with the very samples that were stored."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfkd.config import ObjectiveConfig, TrainingConfig
from tfkd.datasets import (
    audio_batches,
    bucket_bounds,
    change_speed,
    count_batches,
    draw_speed,
    shuffled_batches,
    to_float,
    training_batches,
    training_examples,
)
from tfkd.preparing import prepare
from tfkd.records import Store, open_store
from tfkd.targets import targets_of
from tfkd.text import PAD_ID, CharacterTokenizer

TOKENIZER = CharacterTokenizer(" abdeikmosu")
TRUTH = ObjectiveConfig(kind="truth")
STEADY = TrainingConfig(batch_size=4, speed_factors=(1.0,))


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


def identified(batches: Iterable[dict], store: Store) -> list[tuple[str, dict]]:
    """Rows of training batches in order, with the utterance that their samples belong to."""
    by_samples = {samples.tobytes(): name for name, samples in samples_of(store).items()}
    return [
        (by_samples[row["waveform"][: row["num_samples"]].tobytes()], row)
        for row in rows_of(batches)
    ]


def order_of(batches: Iterable[dict], store: Store) -> list[str]:
    return [name for name, _ in identified(batches, store)]


# --- for decoding


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


def test_neighbours_have_like_lengths(prepared):
    store = prepared["train"]
    bounds = bucket_bounds([row["num_samples"] for row in store.index])
    batches = list(audio_batches(store, 4))
    for batch in batches:
        lengths = batch["num_samples"].numpy()
        assert 1 <= len(lengths) <= 4
        assert len(set(np.searchsorted(bounds, lengths, side="right"))) == 1
        assert batch["waveform"].shape[1] == lengths.max()
    assert any(len(batch["num_samples"]) == 4 for batch in batches)


def test_the_order_for_decoding_is_fixed(prepared):
    batches = audio_batches(prepared["train"], 4)
    first, second = ([row["utterance_id"] for row in rows_of(batches)] for _ in range(2))
    assert first == second


def test_some_shards_give_their_utterances_alone(prepared):
    store = prepared["train"]
    found = rows_of(audio_batches(store, 4, shard_paths=store.shard_paths[1:2]))
    assert {row["utterance_id"].decode() for row in found} == set(store.plan.shards[1])


# --- for training


def test_every_utterance_comes_once_an_epoch_in_other_company(prepared):
    store = prepared["train"]
    first, second = (
        [
            order_of([batch], store)
            for batch in training_batches(store, TOKENIZER, TRUTH, STEADY, seed=seed)
        ]
        for seed in (1, 2)
    )
    for epoch in (first, second):
        assert sorted(name for names in epoch for name in names) == sorted(samples_of(store))
    # Not the order of the batches alone: that would show the same ones again and again.
    assert set(map(frozenset, first)) != set(map(frozenset, second))


def test_the_seed_decides_the_order(prepared):
    store = prepared["train"]

    def order(seed: int) -> list[str]:
        return order_of(training_batches(store, TOKENIZER, TRUTH, STEADY, seed=seed), store)

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_an_epoch_is_the_same_each_time_it_is_read(prepared):
    """Batches, their order and their augmentation: a killed epoch goes on in its middle."""
    training = dataclasses.replace(STEADY, speed_factors=(0.9, 1.0, 1.1))
    batches = training_batches(prepared["train"], TOKENIZER, TRUTH, training, seed=1)
    first, second = (list(batches.as_numpy_iterator()) for _ in range(2))
    skipped = list(batches.skip(3).as_numpy_iterator())
    assert len(first) == len(second) == len(skipped) + 3
    for once, again in [*zip(first, second), *zip(first[3:], skipped)]:
        for name in once:
            np.testing.assert_array_equal(once[name], again[name])


def test_training_batches_name_their_utterances(prepared):
    store = prepared["train"]
    batches = training_batches(store, TOKENIZER, TRUTH, STEADY, seed=1)
    for name, row in identified(batches, store):
        assert row["utterance_id"].decode() == name


@pytest.mark.parametrize("factors", [(1.0,), (0.8, 0.9, 1.0, 1.1, 1.25)])
@pytest.mark.parametrize("without", [set(), {"train-03", "train-04"}])
def test_batches_are_counted_without_reading_audio(prepared, factors, without):
    store = prepared["train"]
    training = dataclasses.replace(STEADY, speed_factors=factors)
    examples = training_examples(store, TOKENIZER, TRUTH).filter(
        lambda example: tf.reduce_all(example["utterance_id"] != [*without, "none"])
    )
    counts = set()
    for seed in range(8):
        found = sum(1 for _ in shuffled_batches(examples, store, training, seed=seed))
        assert count_batches(store, training, seed=seed, without=without) == found
        counts.add(found)
    # Speed moves utterances between buckets.
    assert (len(counts) > 1) == (len(factors) > 1)


def test_the_truth_takes_one_place(prepared):
    store = prepared["train"]
    texts = {row["utterance_id"]: row["text"] for row in store.index}
    for name, row in identified(training_batches(store, TOKENIZER, TRUTH, STEADY, seed=1), store):
        expected = [*TOKENIZER.encode(texts[name]), TOKENIZER.eos_id]
        ((*ids,),) = row["token_ids"].tolist()
        assert ids == expected + [PAD_ID] * (len(ids) - len(expected))
        assert row["weights"].tolist() == [1.0]


def test_hypotheses_take_k_places_the_rest_is_padding(labels):
    # The teacher gives two hypotheses, so the third place is always free.
    objective = ObjectiveConfig(kind="seq_kd", num_hypotheses=3, weights="uniform")
    targets = {r.utterance_id: targets_of(r, TOKENIZER, objective) for r in labels.records()}
    rows = identified(training_batches(labels, TOKENIZER, objective, STEADY, seed=1), labels)
    assert sorted(name for name, _ in rows) == sorted(targets)
    for name, row in rows:
        assert row["token_ids"].shape[0] == row["weights"].shape[0] == 3
        used = len(targets[name].weights)
        assert row["weights"][:used] == pytest.approx(targets[name].weights)
        assert not row["weights"][used:].any()
        for place, expected in enumerate(targets[name].token_ids):
            ids = row["token_ids"][place]
            assert tuple(ids[: len(expected)]) == expected
            assert (ids[len(expected) :] == PAD_ID).all()
        assert (row["token_ids"][used:] == PAD_ID).all()
    assert max(len(target.weights) for target in targets.values()) == 2


def test_batches_never_exceed_their_size(prepared):
    for batch in training_batches(prepared["train"], TOKENIZER, TRUTH, STEADY, seed=1):
        assert 1 <= batch["waveform"].shape[0] <= STEADY.batch_size
        assert batch["waveform"].shape[1] == batch["num_samples"].numpy().max()


def test_what_gives_no_target_is_left_out(tmp_path, speak, prepare_config):
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav"}, {"audio": "c.wav", "text": "x"}]
    for seed, row in enumerate(rows):
        speak(tmp_path / row["audio"], "ba", seed)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    store = open_store(tmp_path / "store")
    assert order_of(training_batches(store, TOKENIZER, TRUTH, STEADY, seed=1), store) == ["a"]


def test_augmented_lengths_are_those_of_the_factors(prepared):
    store = prepared["train"]
    factors = (0.8, 1.25)
    training = dataclasses.replace(STEADY, speed_factors=factors)
    batches = training_batches(store, TOKENIZER, TRUTH, training, seed=1)
    found = sorted(int(row["num_samples"]) for row in rows_of(batches))
    sizes = [samples.size for samples in samples_of(store).values()]
    slow, fast = ([count for n in sizes for count in lengths(n, f)] for f in factors)
    assert set(found) <= {*slow, *fast}
    assert set(found) & set(slow)
    assert set(found) & set(fast)
    assert len(found) == len(sizes)


def lengths(samples: int, factor: float) -> tuple[int, int]:
    """The length at another speed; where it is nearly whole, float32 may round either way."""
    exact = samples / factor
    return math.floor(exact - 1e-3), math.floor(exact + 1e-3)


# --- speed


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_speed_changes_length_and_pitch(factor):
    rate_hz, samples = 8000, 8000
    tone = tf.sin(2 * np.pi * 400 * tf.range(samples, dtype=tf.float32) / rate_hz)
    changed = change_speed(tone, factor).numpy()
    assert changed.size in lengths(samples, factor)
    loudest = np.abs(np.fft.rfft(changed * np.hanning(changed.size))).argmax()
    assert loudest * rate_hz / changed.size == pytest.approx(400 * factor, abs=2)


def test_twice_the_speed_takes_every_other_sample():
    waveform = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    np.testing.assert_array_equal(change_speed(waveform, 2.0), waveform[:1000:2])


def test_half_the_speed_puts_means_between_samples():
    changed = change_speed(tf.constant([0.0, 2.0, 6.0]), 0.5).numpy()
    np.testing.assert_array_equal(changed, [0, 1, 2, 4, 6, 6])


def test_speed_one_changes_nothing():
    waveform = np.random.default_rng(0).standard_normal(777).astype(np.float32)
    np.testing.assert_array_equal(change_speed(waveform, 1.0), waveform)


def test_each_factor_is_drawn_as_often():
    factors = (0.9, 1.0, 1.125)
    drawn = draw_speed([f"utterance {n}" for n in range(3000)], factors, seed=5).numpy()
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.float32(factors))
    # Five standard deviations of a fair draw.
    assert np.abs(counts - 1000).max() < 130


def test_each_epoch_draws_other_speeds():
    ids = [f"utterance {n}" for n in range(100)]
    first, again, second = (draw_speed(ids, (0.9, 1.1), seed).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 30 < np.count_nonzero(first != second) < 70


def test_sixteen_bits_fill_the_range():
    found = to_float(tf.constant([-32768, 0, 16384, 32767], tf.int16)).numpy()
    np.testing.assert_array_equal(found, np.float32([-1, 0, 0.5, 32767 / 32768]))


# --- buckets


@pytest.mark.parametrize("sizes", [[1], [5000], [100, 100], [800, 480_000], list(range(1, 3000))])
def test_bounds_cover_every_length_and_keep_padding_small(sizes):
    bounds = bucket_bounds(sizes)
    assert bounds == sorted(set(bounds))
    assert bounds[0] > min(sizes)
    assert bounds[-1] >= max(sizes)
    # From 100 samples on, rounding to whole samples does not matter.
    assert all(high / low < 1.17 for low, high in zip(bounds, bounds[1:]) if low > 100)


def test_bounds_of_nothing():
    assert bucket_bounds([]) == [1]
