"""A training that is killed at random, or loses part of a checkpoint, ends as if unbroken."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from proof import SEED

from tfkd.checkpoints import Progress, restore_checkpoint, save_checkpoint
from tfkd.config import SystemConfig, to_yaml
from tfkd.epochs import TrainingEpochs
from tfkd.runs import load_run
from tfkd.training import TrainableRecogniser, train

VOCAB_SIZE = 15
TRAIN = """
import sys
from tfkd.config import SystemConfig, from_dict
from tfkd.records import open_store
from tfkd.strict_yaml import read_yaml
from tfkd.training import train

config, train_dir, valid_dir, out = sys.argv[1:]
train(from_dict(SystemConfig, read_yaml(config)), open_store(train_dir), open_store(valid_dir), out)
"""


@pytest.fixture(scope="module")
def system(tiny_system) -> SystemConfig:
    """A checkpoint after every step, so that kills strike their writing, too."""
    model = dataclasses.replace(tiny_system.model, ctc=False)
    training = dataclasses.replace(
        tiny_system.training, epochs=2, ctc_weight=0.0, checkpoint_minutes=0.0
    )
    return dataclasses.replace(tiny_system, model=model, training=training)


def steps_of(run: Path, system: SystemConfig) -> int:
    """Optimizer steps in the newest checkpoint of a run."""
    model = TrainableRecogniser(system.model, load_run(run).tokenizer.vocab_size)
    model.configure(system.training, 1)
    restore_checkpoint(run / "checkpoints", model)
    return int(model.optimizer.iterations.numpy())


def check_finished(run: Path, system: SystemConfig, prepared) -> None:
    """The history is contiguous, and each batch of each epoch was one step."""
    tokenizer = load_run(run).tokenizer
    epochs = TrainingEpochs(prepared["train"], tokenizer, system.training)
    batches = sum(1 for n in range(system.training.epochs) for _ in epochs.batches(n))
    assert steps_of(run, system) == batches
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert len(rows) == system.training.epochs
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert not list((run / "checkpoints").glob(".*"))


def test_a_training_survives_kills_at_random_moments(tmp_path, system, prepared, proof):
    kills = proof.count(fast=3, full=50)
    config = tmp_path / "system.yaml"
    config.write_text(to_yaml(system))
    stores = [str(prepared[split].directory) for split in ("train", "valid")]
    rng = random.Random(SEED)

    def start(run: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, config, *stores, run],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    begun = time.monotonic()
    reference = tmp_path / "unbroken"
    _, errors = (process := start(reference)).communicate()
    assert process.returncode == 0, errors
    seconds = time.monotonic() - begun
    check_finished(reference, system, prepared)

    done = finished = 0
    while done < kills:
        run = tmp_path / f"run-{finished}"
        process = start(run)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.3, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
        else:
            assert process.returncode == 0, errors
            check_finished(run, system, prepared)
            finished += 1
        for checkpoint in run.glob("checkpoints/epoch-*"):
            Progress(**without_digest(checkpoint))
            with np.load(checkpoint / "state.npz") as arrays:
                assert all(np.isfinite(array).all() for array in arrays.values())
    run = tmp_path / f"run-{finished}"
    train(system, prepared["train"], prepared["valid"], run)
    check_finished(run, system, prepared)
    proof.report("training killed at random moments", kills=done, finished=finished + 1, lost=0)


def without_digest(checkpoint: Path) -> dict:
    content = json.loads((checkpoint / "progress.json").read_text())
    del content["sha256"]
    return content


def test_a_checkpoint_cut_anywhere_gives_way_to_the_one_before(tmp_path, system, proof):
    points = proof.count(fast=10, full=100)
    model = TrainableRecogniser(system.model, VOCAB_SIZE)
    model.configure(system.training, 1)
    model.optimizer.build(model.trainable_variables)
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
    proof.report("checkpoints cut short", points=cut, resumed=cut)
