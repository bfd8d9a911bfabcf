"""A training that is killed at random, or loses part of a checkpoint, ends as if unbroken."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from proof import SEED, Proof
from trainers import Task

from tfkd.config import SystemConfig
from tfkd.decoding.runs import load_run
from tfkd.models.recogniser import Recogniser
from tfkd.records import open_store
from tfkd.training.batches import TrainingEpochs
from tfkd.training.checkpoints import Progress, restore_checkpoint, save_checkpoint
from tfkd.training.trainable import compile_for

VOCAB_SIZE = 15


@pytest.fixture(scope="module")
def task(fork_server, short_training, prepared, proof: Proof) -> Task:
    stores = (prepared[split].directory for split in ("train", "valid"))
    return Task(short_training, *stores, eagerly=proof.is_fast)


@dataclasses.dataclass(frozen=True)
class Unbroken:
    """A training that nothing disturbed.

    Attributes:
      pauses: seconds from the start to the first step, from each step to the next, and to the end.
    """

    run: Path
    pauses: list[float]
    batches: list[int]  # of each epoch

    @property
    def steps(self) -> int:
        return sum(self.batches)

    def steps_at(self, progress: Progress) -> int:
        """Steps that lead to `progress` if none is left out and none is done twice."""
        return sum(self.batches[: progress.epochs]) + progress.batches


@pytest.fixture(scope="module")
def unbroken(task: Task, tmp_path_factory) -> Unbroken:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    times = [time.monotonic()]
    trainer = task.start(run)
    while trainer.hear():
        times.append(time.monotonic())
    assert trainer.wait() == 0, trainer.messages.read_text()
    times.append(time.monotonic())
    training = task.system.training
    epochs = TrainingEpochs(open_store(task.train), load_run(run).tokenizer, training)
    # Counted by reading them, not by the arithmetic that the training itself relies on.
    batches = [sum(1 for _ in epochs.batches(number)) for number in range(training.epochs)]
    return Unbroken(run, np.diff(times).tolist(), batches)


@pytest.fixture(scope="module")
def model(short_training: SystemConfig) -> Recogniser:
    """Receives checkpoints."""
    model = Recogniser(short_training.model, VOCAB_SIZE)
    compile_for(model, short_training.training, 1)
    model.optimizer.build(model.trainable_variables)
    return model


def newest_checkpoint(run: Path, model: Recogniser, scratch: Path) -> tuple[Progress, int]:
    """Progress and optimizer steps of the newest good checkpoint; `run` stays as it is."""
    shutil.rmtree(scratch, ignore_errors=True)
    model.optimizer.iterations.assign(0)
    if (run / "checkpoints").exists():
        shutil.copytree(run / "checkpoints", scratch)
    return restore_checkpoint(scratch, model), int(model.optimizer.iterations.numpy())


def assert_same_run(run: Path, unbroken: Path) -> None:
    """History, checkpoints (weights, optimizer, random state) and model are equal bit by bit.

    The time that it took is not.
    """
    names = {path.name for path in (unbroken / "checkpoints").iterdir()}
    assert {path.name for path in (run / "checkpoints").iterdir()} == names
    assert (run / "history.jsonl").read_bytes() == (unbroken / "history.jsonl").read_bytes()
    found, expected = (json.loads((each / "complete.json").read_text()) for each in (run, unbroken))
    assert found.pop("seconds") > 0 < expected.pop("seconds")
    assert found == expected
    for name in names:
        with (
            np.load(run / "checkpoints" / name / "state.npz") as found,
            np.load(unbroken / "checkpoints" / name / "state.npz") as expected,
        ):
            assert found.files == expected.files
            for array in expected.files:
                np.testing.assert_array_equal(found[array], expected[array])
    weights = (load_run(each).model.get_weights() for each in (run, unbroken))
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_kill_9_at_random_moments(
    task: Task, unbroken: Unbroken, model: Recogniser, tmp_path: Path, proof: Proof
) -> None:
    wanted = proof.count(fast=2, full=50)
    generator = np.random.default_rng(SEED)
    kills = starts = finished = most_repeated = 0
    while kills < wanted:
        run = tmp_path / f"run-{finished}"
        done = 0
        while True:
            trainer = task.start(run)
            starts += 1
            if kills < wanted:
                # Every step is as likely as every other, though the first one takes longest.
                last = int(generator.integers(done, unbroken.steps + 1))
                pause = unbroken.pauses[last if last > done else 0]
                trainer.kill_after(last, pause * generator.uniform())
            code = trainer.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, trainer.messages.read_text()
            kills += 1
            progress, done = newest_checkpoint(run, model, tmp_path / "scratch")
            assert done == unbroken.steps_at(progress)
            most_repeated = max(most_repeated, trainer.done - done)
        assert_same_run(run, unbroken.run)
        finished += 1
    # At most the step is done again whose checkpoint was not written when the kill came.
    assert most_repeated <= 1
    proof.report(
        "training: kill -9 at random moments",
        kills=kills,
        starts=starts,
        trainings=finished,
        steps_of_each=unbroken.steps,
        most_steps_repeated=most_repeated,
        other_bits=0,
    )


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    task: Task, unbroken: Unbroken, tmp_path: Path, proof: Proof
) -> None:
    """What it lost is done again to the same bits, the model of the lost epoch, too."""
    run = shutil.copytree(unbroken.run, tmp_path / "run")
    (run / "complete.json").unlink()
    state = max((run / "checkpoints").iterdir()) / "state.npz"
    state.write_bytes(state.read_bytes()[:-1])
    (run / "model.keras").write_bytes(b"of the lost epoch")
    trainer = task.start(run)
    assert trainer.wait() == 0, trainer.messages.read_text()
    assert_same_run(run, unbroken.run)
    proof.report("training: newest checkpoint damaged", other_bits=0)


def test_a_checkpoint_cut_anywhere_gives_way_to_the_one_before(
    tmp_path: Path, model: Recogniser, proof: Proof
) -> None:
    points = proof.count(fast=10, full=100)
    older, newer = Progress([{"val_wer": 0.5}], 2), Progress([{"val_wer": 0.5}], 3)
    for progress in (older, newer):
        model.optimizer.iterations.assign(progress.batches)
        save_checkpoint(tmp_path / "whole", model, progress)
    cut = 0
    for name in ("state.npz", "progress.json"):
        size = (tmp_path / "whole" / newer.name / name).stat().st_size
        for kept in np.linspace(0, size - 1, points // 2).astype(int):
            damaged = shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
            with open(damaged / newer.name / name, "r+b") as file:
                file.truncate(int(kept))
            expected = older
            # Of JSON, the line end is no loss.
            if name == "progress.json" and kept == size - 1:
                expected = newer
            model.optimizer.iterations.assign(0)
            assert restore_checkpoint(damaged, model) == expected
            assert int(model.optimizer.iterations.numpy()) == expected.batches
            shutil.rmtree(damaged)
            cut += 1
    proof.report("training: checkpoints cut short", points=cut, resumed=cut)
