"""Two devices, or two workers that are killed and started again, train as one device does.

Dropout and SpecAugment are off there, because replicas draw masks of their own. What is left
differs by the order of sums alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proof import SEED

from tfkd.config import SystemConfig, to_yaml
from tfkd.decoding.runs import load_run
from tfkd.models.recogniser import Recogniser
from tfkd.training.checkpoints import restore_checkpoint
from tfkd.training.loop import train
from tfkd.training.trainable import compile_for

WORKERS = 2
# A killed worker is missed after ten seconds; the rest is starting and training.
LONGEST_SECONDS = 600
# Of losses and weights: rounding of float32, carried through some ten steps of Adam.
TOLERANCE = 1e-4
EPOCHS = 2

TRAIN = """
import os, signal, sys
import tensorflow as tf
from tfkd.training import callbacks
from tfkd.config import SystemConfig, from_dict
from tfkd.records import open_store
from tfkd.config.strict_yaml import read_yaml
from tfkd.training.loop import train

config, train_dir, valid_dir, out, last_step = sys.argv[1:]
system = from_dict(SystemConfig, read_yaml(config))
if system.training.distribution == "mirrored":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
real = callbacks.KeepProgress.on_train_batch_end

def die_after_the_last(self, batch, logs=None):
    real(self, batch, logs)
    if int(self.model.optimizer.iterations.numpy()) == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.KeepProgress.on_train_batch_end = die_after_the_last
train(system, open_store(train_dir), open_store(valid_dir), out)
"""

# Draws twice on each of two devices, and trains while a profile looks on.
DRAW_AND_PROFILE = """
import json, sys
import tensorflow as tf
from tfkd.config import SpecAugmentConfig, SystemConfig, from_dict
from tfkd.training.distribution import Replicas
from tfkd.models.spec_augment import SpecAugment
from tfkd.layers.dropout import Dropout
from tfkd.training.profiling import Profile
from tfkd.records import open_store
from tfkd.config.strict_yaml import read_yaml
from tfkd.training.loop import train

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
replicas = Replicas("mirrored")
with replicas.scope():
    augment, dropout = SpecAugment(SpecAugmentConfig()), Dropout(0.5)

def draw():
    features = augment(tf.ones([2, 50, 40]), tf.fill([2], 50), training=True)
    return features, dropout(tf.ones([2, 50]), training=True)

local = replicas.strategy.experimental_local_results
draws = [[local(part) for part in replicas.strategy.run(draw)] for _ in range(2)]
states = [local(layer.seed_generator.state.value) for layer in (augment, dropout)]
config, train_dir, valid_dir, out = sys.argv[1:]
system, profile = from_dict(SystemConfig, read_yaml(config)), Profile()
train(system, open_store(train_dir), open_store(valid_dir), out, profile)
print(json.dumps({
    "draws": [[[device.numpy().tolist() for device in part] for part in each] for each in draws],
    "states": [[device.numpy().tolist() for device in state] for state in states],
    "profile": {name: value for name, value in vars(profile).items()
                if name in ("seconds", "wall_seconds", "steps", "utterances")},
}))
"""


@pytest.fixture(scope="module")
def system(tiny_system) -> SystemConfig:
    """Batches of five, so that shares are unequal, and a checkpoint after every step."""
    model = dataclasses.replace(tiny_system.model, ctc=False)
    training = dataclasses.replace(
        tiny_system.training,
        epochs=EPOCHS,
        batch_size=5,
        ctc_weight=0.0,
        checkpoint_minutes=0.0,
        average_share=0.2,
    )
    return dataclasses.replace(tiny_system, model=model, training=training)


@pytest.fixture(scope="module")
def reference(system, prepared, tmp_path_factory) -> Path:
    """The run of a single device."""
    out = tmp_path_factory.mktemp("reference")
    train(system, prepared["train"], prepared["valid"], out)
    return out


class Trainers:
    """Starts processes that train together in one folder."""

    def __init__(self, system: SystemConfig, prepared, folder: Path) -> None:
        self.system, self.folder = system, folder
        self.stores = [str(prepared[split].directory) for split in ("train", "valid")]
        self.run = folder / "run"
        self._started: list[subprocess.Popen] = []

    def start(self, distribution: str, last_step: int = -1, **environment: str) -> subprocess.Popen:
        training = dataclasses.replace(self.system.training, distribution=distribution)
        config = self.folder / f"{distribution}.yaml"
        config.write_text(to_yaml(dataclasses.replace(self.system, training=training)))
        arguments = [config, *self.stores, self.run, str(last_step)]
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def draw_and_profile(self) -> dict[str, Any]:
        """What DRAW_AND_PROFILE prints."""
        training = dataclasses.replace(self.system.training, distribution="mirrored")
        config = self.folder / "profiled.yaml"
        config.write_text(to_yaml(dataclasses.replace(self.system, training=training)))
        command = [sys.executable, "-c", DRAW_AND_PROFILE, config, *self.stores, self.run]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start_workers(self, victim: int | None = None, last_step: int = -1):
        """Two workers on the loopback interface; the victim dies after its step `last_step`."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(WORKERS)]
        return [
            self.start(
                "multi_worker",
                last_step if index == victim else -1,
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            )
            for index in range(WORKERS)
        ]

    def kill(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def trainers(system, prepared, tmp_path) -> Iterator[Trainers]:
    found = Trainers(system, prepared, tmp_path)
    yield found
    found.kill()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def end(process: subprocess.Popen) -> str:
    """What the process said; it must end well."""
    _, errors = process.communicate(timeout=LONGEST_SECONDS)
    assert process.returncode == 0, errors
    return errors


def history_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def steps_of(run: Path, system: SystemConfig) -> int:
    """Optimizer steps in the newest checkpoint of a run."""
    model = Recogniser(system.model, load_run(run).tokenizer.vocab_size)
    compile_for(model, system.training, 1)
    restore_checkpoint(run / "checkpoints", model)
    return int(model.optimizer.iterations.numpy())


def check_equal(run: Path, reference: Path, system: SystemConfig) -> float:
    """The greatest difference of any weight; losses, weights and steps must be the same."""
    for found, expected in zip(history_of(run), history_of(reference), strict=True):
        assert found == pytest.approx(expected, rel=TOLERANCE)
    assert steps_of(run, system) == steps_of(reference, system)
    weights = [load_run(each).model.get_weights() for each in (run, reference)]
    differences = [float(np.abs(a - b).max()) for a, b in zip(*weights, strict=True)]
    assert max(differences) < TOLERANCE
    return max(differences)


def test_two_devices_of_a_machine_train_as_one(trainers, reference, system, proof):
    end(trainers.start("mirrored"))
    difference = check_equal(trainers.run, reference, system)
    proof.report("mirrored on two devices", devices=2, largest_weight_difference=difference)


def test_devices_draw_masks_of_their_own_and_are_profiled(trainers, system):
    found = trainers.draw_and_profile()
    # Each draw is another one: of a device, and of a call.
    for draws in zip(*found["draws"], strict=True):
        masks = [json.dumps(device) for devices in draws for device in devices]
        assert len(set(masks)) == len(masks) == 4
    # A checkpoint holds the state of one device, so it must be that of all.
    for first, second in found["states"]:
        assert first == second
    profile = found["profile"]
    # 24 utterances an epoch in batches of five: rows that stand in are no utterances.
    assert profile["utterances"] == 24 * EPOCHS
    assert profile["steps"] == 5 * EPOCHS
    assert min(profile["seconds"].values()) >= 0
    assert sum(profile["seconds"].values()) == pytest.approx(profile["wall_seconds"])


def test_workers_that_are_killed_and_started_again_train_as_one(trainers, reference, system, proof):
    kills = proof.count(fast=1, full=4)
    rng = random.Random(SEED)
    steps = steps_of(reference, system)
    moments = sorted(rng.sample(range(2, steps), kills))
    for number, step in enumerate(moments):
        # The chief is worker 0; the first victim is the other.
        victim = (number + 1) % WORKERS
        processes = trainers.start_workers(victim, step)
        _, errors = processes[victim].communicate(timeout=LONGEST_SECONDS)
        assert processes[victim].returncode == -signal.SIGKILL, errors
        survivor = processes[1 - victim]
        _, errors = survivor.communicate(timeout=LONGEST_SECONDS)
        assert survivor.returncode == 1, errors
        assert "TrainingError: another worker is gone" in errors
        assert "start all workers again" in errors
        assert not (trainers.run / "complete.json").exists()
    for process in trainers.start_workers():
        end(process)
    difference = check_equal(trainers.run, reference, system)
    proof.report(
        "two workers killed and started again",
        kills=kills, steps=steps, steps_lost=0, largest_weight_difference=difference,
    )  # fmt: skip
