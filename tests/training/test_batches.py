"""Epochs hold each utterance once, in the same batches each time, with little padding."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfkd.config import AugmentationConfig, ObjectiveConfig, TrainingConfig
from tfkd.data.augmentation import SpeedChange, draw_speed
from tfkd.data.batch_plan import plan_batches
from tfkd.data.preparation import prepare
from tfkd.objectives import make_objective
from tfkd.records import Store, open_store
from tfkd.text import PAD_ID, CharacterTokenizer
from tfkd.training import examples
from tfkd.training.batches import TrainingEpochs
from tfkd.training.distribution import replica_shares
from tfkd.training.profiling import Profile

TOKENIZER = CharacterTokenizer(" abdeikmosu")
STEADY = TrainingConfig(batch_size=4, speed_factors=(1.0,))
PERTURBED = dataclasses.replace(STEADY, speed_factors=(0.8, 1.0, 1.25))


def epochs_of(store: Store, training: TrainingConfig = STEADY) -> TrainingEpochs:
    return TrainingEpochs(store, TOKENIZER, training)


def content_of(batches: tf.data.Dataset) -> list[dict[str, np.ndarray]]:
    return list(batches.as_numpy_iterator())


def rows_of(batches: tf.data.Dataset) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Each utterance's name and its row of every other tensor, in order."""
    for batch in batches.as_numpy_iterator():
        for row, name in enumerate(batch["utterance_id"]):
            yield name.decode(), {key: values[row] for key, values in batch.items()}


def companies_of(batches: tf.data.Dataset) -> list[frozenset[bytes]]:
    return [frozenset(batch["utterance_id"]) for batch in content_of(batches)]


def samples_of(store: Store) -> dict[str, np.ndarray]:
    """What libsndfile decodes, by utterance."""
    return {
        record.utterance_id: soundfile.read(io.BytesIO(record.audio), dtype="float32")[0]
        for record in store.records()
    }


def assert_equal(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for once, again in zip(first, second, strict=True):
        assert once.keys() == again.keys()
        for name in once:
            np.testing.assert_array_equal(once[name], again[name])


# --- the plan


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_a_plan_holds_each_utterance_once_in_batches_of_like_size(count):
    lengths = np.random.default_rng(0).integers(8_000, 160_000, count)
    planned = plan_batches(lengths, 16, np.random.default_rng(1))
    assert sorted(np.concatenate([*planned, []])) == list(range(count))
    assert len(planned) == -(-count // 16)
    sizes = [len(batch) for batch in planned]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert max(sizes, default=0) <= 16


def test_at_most_a_tenth_of_ragged_lengths_is_padding():
    # From half a second to half a minute, most of them short.
    lengths = (16_000 * np.random.default_rng(0).lognormal(1.2, 0.7, 2000).clip(0.5, 30)).astype(
        int
    )
    paddings = []
    for seed in range(5):
        planned = plan_batches(lengths, 16, np.random.default_rng(seed))
        held = sum(len(batch) * lengths[batch].max() for batch in planned)
        paddings.append(1 - lengths.sum() / held)
    assert max(paddings) <= 0.1
    # Less would mean that neighbours in length are always the same.
    assert min(paddings) > 0.02


def test_other_seeds_give_other_companies_and_another_order():
    lengths = np.arange(10_000, 30_000, 50)
    first, second = (plan_batches(lengths, 8, np.random.default_rng(seed)) for seed in (1, 2))
    shared = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    assert len(shared) < 3
    means = [lengths[batch].mean() for batch in first]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


# --- the batches


def test_every_utterance_comes_once_an_epoch_in_other_company(prepared):
    training = epochs_of(prepared["train"])
    first, second = (companies_of(training.batches(epoch)) for epoch in (0, 1))
    for companies in (first, second):
        names = [name.decode() for company in companies for name in company]
        assert sorted(names) == sorted(samples_of(prepared["train"]))
    # Not the order of the batches alone: that would show the same ones again and again.
    assert set(first) != set(second)


def test_no_pass_of_another_seed_goes_the_same_way(prepared):
    trainings = [
        epochs_of(prepared["train"], dataclasses.replace(PERTURBED, seed=seed)) for seed in (0, 1)
    ]
    passes = [tuple(companies_of(each.batches(epoch))) for each in trainings for epoch in range(3)]
    assert len(set(passes)) == len(passes)


def test_an_epoch_of_three_passes_is_three_epochs_of_one(prepared):
    once = epochs_of(prepared["train"], PERTURBED)
    thrice = epochs_of(prepared["train"], dataclasses.replace(PERTURBED, passes_per_epoch=3))
    assert thrice.num_batches == 3 * once.num_batches
    assert thrice.total_batches == 3 * once.total_batches
    expected = [batch for epoch in (3, 4, 5) for batch in content_of(once.batches(epoch))]
    assert_equal(content_of(thrice.batches(1)), expected)
    begun = once.num_batches + 1
    assert_equal(content_of(thrice.batches(1, begun)), expected[begun:])
    names = [thrice.utterance_ids(1, number) for number in range(thrice.num_batches)]
    assert names == [[name.decode() for name in batch["utterance_id"]] for batch in expected]


def test_clean_epochs_are_counted_in_epochs_and_not_in_passes(prepared):
    def epoch_of_three_passes(training: TrainingConfig) -> list[dict[str, np.ndarray]]:
        passes = dataclasses.replace(training, passes_per_epoch=3)
        return content_of(epochs_of(prepared["train"], passes).batches(1))

    always, later = (
        dataclasses.replace(STEADY, augmentation=AugmentationConfig(clean_epochs=number))
        for number in (0, 1)
    )
    assert_equal(epoch_of_three_passes(later), epoch_of_three_passes(always))
    never = dataclasses.replace(STEADY, augmentation=AugmentationConfig(clean_epochs=2))
    changed = zip(epoch_of_three_passes(never), epoch_of_three_passes(always), strict=True)
    assert any(one["waveform"].shape != other["waveform"].shape for one, other in changed)


def test_batches_hold_the_very_samples_that_were_stored(prepared):
    expected = samples_of(prepared["train"])
    training = epochs_of(prepared["train"])
    # Decoded in the first epoch, kept in the second.
    for epoch in range(2):
        for name, row in rows_of(training.batches(epoch)):
            samples = row["waveform"][: row["num_samples"]]
            np.testing.assert_array_equal(samples, expected[name])
            assert not row["waveform"][row["num_samples"] :].any()


def test_an_epoch_is_the_same_each_time_it_is_read(prepared):
    """Batches, their order and their augmentation: a killed epoch goes on in its middle."""
    training = epochs_of(prepared["train"], PERTURBED)
    epoch = content_of(training.batches(1))
    assert_equal(epoch, content_of(training.batches(1)))
    assert_equal(epoch, content_of(epochs_of(prepared["train"], PERTURBED).batches(1)))
    assert_equal(epoch[3:], content_of(training.batches(1, first=3)))
    assert content_of(training.batches(1, first=len(epoch))) == []


def test_nothing_before_the_first_batch_is_loaded(prepared, monkeypatch):
    training = epochs_of(prepared["train"])
    loaded = []
    real = examples.Examples._load

    def load(self, place):
        loaded.append(place)
        return real(self, place)

    monkeypatch.setattr(examples.Examples, "_load", load)
    rest = content_of(training.batches(0, first=4))
    assert len(loaded) == sum(len(batch["num_samples"]) for batch in rest)


def test_who_is_in_a_batch_is_told_without_loading_it(prepared, monkeypatch):
    found = epochs_of(prepared["train"], PERTURBED)
    expected = [
        [[name.decode() for name in batch["utterance_id"]] for batch in content_of(batches)]
        for batches in map(found.batches, range(2))
    ]
    monkeypatch.setattr(TrainingEpochs, "_load", None)
    assert expected == [
        [found.utterance_ids(epoch, batch) for batch in range(found.num_batches)]
        for epoch in range(2)
    ]


def test_the_end_of_an_epoch_waits_for_no_tuning(prepared):
    """What a profile or replicas make of the batches keeps their options."""
    epochs = epochs_of(prepared["train"])
    batches, signature = epochs.batches(0), epochs.signature
    for each in (batches, Profile().watch(batches), replica_shares(batches, signature, 2)):
        assert each.options().autotune.enabled is False


def test_all_epochs_have_as_many_batches(prepared):
    training = epochs_of(prepared["train"], PERTURBED)
    counts = {len(content_of(training.batches(epoch))) for epoch in range(4)}
    assert counts == {training.num_batches} == {6}
    assert training.batches(0, first=2).cardinality() == 4
    assert training.total_batches == 6 * PERTURBED.epochs


def test_audio_beyond_the_cache_is_decoded_anew_to_the_same_batches(prepared, monkeypatch):
    expected = [content_of(epochs_of(prepared["train"]).batches(epoch)) for epoch in range(2)]
    sizes = sorted(2 * row["num_samples"] for row in prepared["train"].index)
    limit = sum(sizes[:10])
    monkeypatch.setattr(examples, "_CACHE_BYTES", limit)
    training = epochs_of(prepared["train"])
    for epoch, batches in enumerate(expected):
        assert_equal(content_of(training.batches(epoch)), batches)
    kept = sum(example.waveform.nbytes for example in training._examples._kept.values())
    assert limit - sizes[-1] < kept <= limit


def test_the_cache_is_not_spent_on_what_is_never_read(prepared, monkeypatch):
    names = [row["utterance_id"] for row in prepared["train"].index]
    sizes = [2 * row["num_samples"] for row in prepared["train"].index]
    monkeypatch.setattr(examples, "_CACHE_BYTES", sum(sizes[20:]))
    training = TrainingEpochs(prepared["train"], TOKENIZER, STEADY, [set(names[:20])])
    content_of(training.batches(0))
    assert sorted(training._examples._kept) == list(range(20, len(names)))


def test_what_gives_no_target_is_left_out(tmp_path, speak, prepare_config):
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav"}, {"audio": "c.wav", "text": "x"}]
    for seed, row in enumerate(rows):
        speak(tmp_path / row["audio"], "ba", seed)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    store = open_store(tmp_path / "store")
    for training in (epochs_of(store), TrainingEpochs(store, TOKENIZER, STEADY, [{"b", "c"}])):
        assert [name for name, _ in rows_of(training.batches(0))] == ["a"]
        assert training.num_batches == 1


def test_the_truth_takes_one_place(prepared):
    texts = {row["utterance_id"]: row["text"] for row in prepared["train"].index}
    for name, row in rows_of(epochs_of(prepared["train"]).batches(0)):
        expected = [*TOKENIZER.encode(texts[name]), TOKENIZER.eos_id]
        ((*ids,),) = row["token_ids"].tolist()
        assert ids == expected + [PAD_ID] * (len(ids) - len(expected))
        assert row["weights"].tolist() == [1.0]


def test_hypotheses_take_k_places_the_rest_is_padding(labels):
    # The teacher gives two hypotheses, so the third place is always free.
    config = ObjectiveConfig(kind="seq_kd", num_hypotheses=3, weights="uniform")
    training = dataclasses.replace(STEADY, objective=config)
    objective = make_objective(training)
    targets = {r.utterance_id: objective.targets(r, TOKENIZER).arrays for r in labels.records()}
    rows = dict(rows_of(epochs_of(labels, training).batches(0)))
    assert rows.keys() == targets.keys()
    for name, row in rows.items():
        assert row["token_ids"].shape[0] == row["weights"].shape[0] == 3
        np.testing.assert_array_equal(row["weights"], targets[name]["weights"])
        assert not row["weights"][2:].any()
        for ids, expected in zip(row["token_ids"], targets[name]["token_ids"], strict=True):
            np.testing.assert_array_equal(ids[: len(expected)], expected)
            assert (ids[len(expected) :] == PAD_ID).all()
        assert (row["token_ids"][2:] == PAD_ID).all()
    assert max((arrays["weights"] > 0).sum() for arrays in targets.values()) == 2


def test_batches_are_as_long_as_their_longest_utterance(prepared):
    for batch in content_of(epochs_of(prepared["train"], PERTURBED).batches(0)):
        assert 1 <= batch["waveform"].shape[0] <= PERTURBED.batch_size
        assert batch["waveform"].shape[1] == batch["num_samples"].max()


def test_utterances_are_played_at_the_speed_that_was_drawn(prepared):
    expected = samples_of(prepared["train"])
    names = list(expected)
    training = epochs_of(prepared["train"], PERTURBED)
    used = set()
    for epoch in range(2):
        drawn = dict(zip(names, draw_speed(names, PERTURBED.speed_factors, epoch), strict=True))
        for name, row in rows_of(training.batches(epoch)):
            factor = PERTURBED.speed_factors[drawn[name]]
            played = SpeedChange(factor, expected[name].size)(expected[name])
            np.testing.assert_array_equal(row["waveform"][: row["num_samples"]], played)
            used.add(factor)
    assert used == set(PERTURBED.speed_factors)
