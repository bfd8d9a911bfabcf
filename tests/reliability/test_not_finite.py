"""A number that is not finite stops a training within a step, and no checkpoint ever holds one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from proof import Proof

from tfkd.config import SystemConfig
from tfkd.errors import TrainingError
from tfkd.text import train_tokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.checkpoints import Progress
from tfkd.training.loop import train

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def names(short_training: SystemConfig, prepared) -> list[list[list[str]]]:
    """Ids of the utterances of each batch of each epoch."""
    tokenizer = train_tokenizer([], short_training.tokenizer)
    epochs = TrainingEpochs(prepared["train"], tokenizer, short_training.training)
    return [
        [[name.decode() for name in batch["utterance_id"].numpy()] for batch in epochs.batches(n)]
        for n in range(short_training.training.epochs)
    ]


def test_a_loss_that_is_not_finite_stops_at_once_and_spares_the_checkpoint(
    short_training, prepared, names, tmp_path, proof: Proof
) -> None:
    """One training, each time resumed, with the loss not finite at a later step."""
    moments = [(epoch, batch) for epoch, each in enumerate(names) for batch in range(len(each))]
    middle, last = len(moments) // 2, len(moments) - 1
    chosen = [0, middle, last] if proof.is_fast else range(len(moments))
    for number in chosen:
        epoch, batch = moments[number]
        with pytest.MonkeyPatch.context() as patch:
            poison(patch, epoch, batch)
            with pytest.raises(TrainingError, match="not finite") as caught:
                train(short_training, prepared["train"], prepared["valid"], tmp_path)
        message = str(caught.value)
        listed = ", ".join(names[epoch][batch])
        where = f"not finite at step {number + 1}, on utterances {listed} ("
        assert f"the loss or its gradient is {where}" in message
        assert "lower training.learning_rate" in message
        assert not (tmp_path / "complete.json").exists()
        newest = max(tmp_path.glob("checkpoints/*"), default=None)
        # That of the step before.
        before = Progress([{}] * epoch, batch).name
        assert newest == (tmp_path / "checkpoints" / before if number else None)
        assert_checkpoints_are_finite(tmp_path)
        assert len(history_of(tmp_path)) == epoch
    # Without the poison, training goes on from there.
    train(short_training, prepared["train"], prepared["valid"], tmp_path)
    assert_checkpoints_are_finite(tmp_path)
    history = history_of(tmp_path)
    assert len(history) == len(names)
    assert all(np.isfinite(list(row.values())).all() for row in history)
    proof.report("training: loss not finite", steps_tried=len(chosen), stopped_at_once=len(chosen))


def test_a_step_that_a_scaled_loss_leaves_out_counts(
    short_training, prepared, names, tmp_path
) -> None:
    training = dataclasses.replace(short_training.training, precision="mixed_float16")
    system = dataclasses.replace(short_training, training=training)
    for batch in (0, 2):
        with pytest.MonkeyPatch.context() as patch:
            poison(patch, 0, batch)
            listed = ", ".join(names[0][batch])
            message = f"not finite at step {batch + 1}, on utterances {listed} "
            with pytest.raises(TrainingError, match=message):
                train(system, prepared["train"], prepared["valid"], tmp_path)


def poison(patch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    """Makes the recordings of one batch infinitely loud."""
    real = TrainingEpochs.batches

    def batches(self, number: int, first: int = 0) -> tf.data.Dataset:
        found = real(self, number, first)
        if number != epoch:
            return found
        return found.enumerate(first).map(
            lambda place, each: {
                **each,
                "waveform": tf.where(place == batch, np.float32(np.inf), each["waveform"]),
            }
        )

    patch.setattr(TrainingEpochs, "batches", batches)


def history_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def assert_checkpoints_are_finite(run: Path) -> None:
    for state in run.glob("checkpoints/*/state.npz"):
        with np.load(state) as arrays:
            assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_learning_rate_that_is_far_too_high_is_caught_before_a_checkpoint(
    short_training, prepared, tmp_path, proof: Proof
) -> None:
    training = dataclasses.replace(
        short_training.training,
        learning_rate=1e30,
        final_learning_rate=1e29,
        clip_norm=0.0,
        warmup_steps=0,
    )
    system = dataclasses.replace(short_training, training=training)
    with pytest.raises(TrainingError, match="not finite at step .*, on utterances train-"):
        train(system, prepared["train"], prepared["valid"], tmp_path)
    assert_checkpoints_are_finite(tmp_path)
    proof.report("training: learning rate of 1e30", checkpoints_not_finite=0)
