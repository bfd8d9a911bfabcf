"""Augmented batches hold the planned audio with its targets, in the same way each time."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
import soundfile

from tfkd.config import AugmentationConfig, TrainingConfig, from_dict
from tfkd.objectives import make_objective
from tfkd.records import UTTERANCES, Plan, Store, StoreWriter, open_store
from tfkd.text import EOS_ID, PAD_ID, CharacterTokenizer
from tfkd.training.batches import TrainingEpochs

TOKENIZER = CharacterTokenizer(" abdeikmosu")
AUGMENTED = TrainingConfig(
    batch_size=4,
    speed_factors=(0.8, 1.0, 1.25),
    augmentation=from_dict(
        AugmentationConfig,
        {"joining": {"share": 0.5}, "non_speech": {"share": 0.25, "seconds": [0.2, 1.0]},
         "silence": {"share": 0.5, "max_seconds": 2.0}},
    ),
)  # fmt: skip
NOTHING = "(an example without speech)"


def epochs_of(store: Store, training: TrainingConfig = AUGMENTED) -> TrainingEpochs:
    return TrainingEpochs(store, TOKENIZER, training)


def content_of(epochs: TrainingEpochs, epoch: int, first: int = 0) -> list[dict]:
    return list(epochs.batches(epoch, first).as_numpy_iterator())


def rows_of(batches: list[dict]):
    """(name, row) of each example of some batches."""
    for batch in batches:
        for row, name in enumerate(batch["utterance_id"]):
            yield name.decode(), {key: values[row] for key, values in batch.items()}


def assert_equal(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for once, again in zip(first, second, strict=True):
        for name in once:
            np.testing.assert_array_equal(once[name], again[name])


def test_an_epoch_goes_on_in_its_middle_with_the_same_audio(prepared):
    """As after a kill: by another process, which has loaded nothing of what came before."""
    whole = content_of(epochs_of(prepared["train"]), 1)
    assert_equal(content_of(epochs_of(prepared["train"]), 1, first=4), whole[4:])
    others = content_of(epochs_of(prepared["train"]), 2)
    assert {row["num_samples"] for _, row in rows_of(whole)} != {
        row["num_samples"] for _, row in rows_of(others)
    }


def test_each_utterance_begins_an_example_and_silence_comes_on_top(prepared):
    epochs = epochs_of(prepared["train"])
    ids = sorted(row["utterance_id"] for row in prepared["train"].index)
    for epoch in range(3):
        names = [name for name, _ in rows_of(content_of(epochs, epoch))]
        spoken = sorted(name.split(" + ")[0] for name in names if name != NOTHING)
        assert spoken == ids
        assert names.count(NOTHING) == round(0.25 * len(ids))
        assert any(" + " in name for name in names)
        assert len(names) == len(ids) * 1.25
    assert epochs.num_batches == len(content_of(epochs, 0)) == 8


def test_targets_are_those_of_what_is_heard(prepared):
    texts = {row["utterance_id"]: row["text"] for row in prepared["train"].index}
    for name, row in rows_of(content_of(epochs_of(prepared["train"]), 0)):
        said = "" if name == NOTHING else " ".join(texts[each] for each in name.split(" + "))
        ids = row["token_ids"][0]
        assert ids[ids != PAD_ID].tolist() == [*TOKENIZER.encode(said), EOS_ID]
        assert row["weights"].tolist() == [1.0]


def test_hypotheses_of_joined_utterances_keep_their_places(labels):
    objective = dataclasses.replace(AUGMENTED.objective, kind="seq_kd", num_hypotheses=2)
    training = dataclasses.replace(AUGMENTED, objective=objective)
    # The heaviest comes first, which need not be the one that the search ranked first.
    heaviest = {}
    for record in labels.records():
        ids = make_objective(training).targets(record, TOKENIZER).arrays["token_ids"][0]
        heaviest[record.utterance_id] = TOKENIZER.decode(ids)
    lengths = set()
    for name, row in rows_of(content_of(epochs_of(labels, training), 0)):
        assert row["token_ids"].shape[0] == 2
        assert row["weights"].sum() == pytest.approx(1)
        if name != NOTHING:
            said = TOKENIZER.decode(row["token_ids"][0])
            assert said == " ".join(heaviest[each] for each in name.split(" + "))
            lengths.add(name.count(" + "))
        else:
            assert row["weights"].tolist() == [1.0, 0.0]
    assert max(lengths) >= 2


def test_audio_is_heard_where_nothing_else_is_on(prepared):
    """Joining and digital silence alone, so that the stored samples are found again."""
    off = dataclasses.asdict(AugmentationConfig.off())
    changes = {"joining": {"share": 0.6, "pause_seconds": [0.1, 0.1]}}
    augmentation = from_dict(AugmentationConfig, {**json.loads(json.dumps(off)), **changes})
    training = dataclasses.replace(AUGMENTED, speed_factors=(1.0,), augmentation=augmentation)
    samples = {
        record.utterance_id: soundfile.read(io.BytesIO(record.audio), dtype="float32")[0]
        for record in prepared["train"].records()
    }
    pause = 800  # samples at 8 kHz
    for name, row in rows_of(content_of(epochs_of(prepared["train"], training), 0)):
        start = 0
        for each in name.split(" + "):
            heard = row["waveform"][start : start + samples[each].size]
            np.testing.assert_array_equal(heard, samples[each])
            start += samples[each].size + pause
        assert row["num_samples"] == start - pause
        assert not row["waveform"][row["num_samples"] :].any()


def test_who_is_in_a_batch_is_told_without_loading_it(prepared, monkeypatch):
    epochs = epochs_of(prepared["train"])
    expected = [
        [name.decode() for name in batch["utterance_id"]] for batch in content_of(epochs, 1)
    ]
    monkeypatch.setattr(TrainingEpochs, "_load", None)
    assert [epochs.utterance_ids(1, batch) for batch in range(epochs.num_batches)] == expected


def test_padding_stays_small(prepared):
    """Batches are planned from the augmented lengths, not from those of the store."""
    batches = content_of(epochs_of(prepared["train"]), 0)
    for batch in batches:
        assert batch["waveform"].shape[1] == batch["num_samples"].max()
    held = sum(batch["waveform"].size for batch in batches)
    padding = 1 - sum(int(batch["num_samples"].sum()) for batch in batches) / held
    # Without the plan, the longest example of each batch would leave about a half.
    assert padding < 0.3


def test_an_utterance_with_an_empty_transcript_is_learned(prepared, tmp_path):
    first, second, third = itertools.islice(prepared["train"].records(), 3)
    records = [first, dataclasses.replace(second, text=""), dataclasses.replace(third, text=None)]
    names = [record.utterance_id for record in records]
    plan = Plan.create(UTTERANCES, names, "", {}, len(names))
    with StoreWriter(tmp_path / "store", plan) as writer:
        writer.write_shard(0, iter(records))
        writer.complete()
    epochs = epochs_of(
        open_store(tmp_path / "store"), dataclasses.replace(AUGMENTED, augmentation=None)
    )
    rows = dict(rows_of(content_of(epochs, 0)))
    assert set(rows) == {first.utterance_id, second.utterance_id}
    ids = rows[second.utterance_id]["token_ids"][0]
    assert ids[ids != PAD_ID].tolist() == [EOS_ID]
