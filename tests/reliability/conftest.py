"""A teacher, what it labels, the result of an unbroken run, and a training to be disturbed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from labellers import Task

from tfkd.config import SpecAugmentConfig, SystemConfig
from tfkd.data.preparation import prepare
from tfkd.records import open_store

# Many shards: each is a moment of its own to be killed in.
SHARD_SIZE = 2


@pytest.fixture(scope="session")
def short_training(tiny_system: SystemConfig) -> SystemConfig:
    """Two epochs with a checkpoint after every step.

    Much of them is random, so that a draw which is lost or repeated shows in the weights.
    """
    model = dataclasses.replace(
        tiny_system.model,
        ctc=False,
        spec_augment=SpecAugmentConfig(max_frequency_width=4),
        encoder=dataclasses.replace(tiny_system.model.encoder, dropout=0.1),
    )
    training = dataclasses.replace(
        tiny_system.training, epochs=2, ctc_weight=0.0, checkpoint_minutes=0.0
    )
    return dataclasses.replace(tiny_system, model=model, training=training)


@pytest.fixture(scope="session")
def new_task(
    teacher, label_config, fork_server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Task]:
    """Makes the task of labelling a folder of utterances."""

    def make(data: Path) -> Task:
        return Task(teacher.directory, data, label_config, tmp_path_factory.mktemp("scratch"))

    return make


@pytest.fixture(scope="session")
def task(new_task, tiny_corpus, prepare_config, tmp_path_factory) -> Task:
    """24 utterances in twelve shards, and one that was rejected before."""
    data = tmp_path_factory.mktemp("data") / "train"
    prepare(
        tiny_corpus / "train.jsonl",
        data,
        dataclasses.replace(prepare_config, shard_size=SHARD_SIZE),
    )
    return new_task(data)


@pytest.fixture(scope="session")
def small_task(new_task, prepared) -> Task:
    """Six utterances in two shards."""
    return new_task(prepared["valid"].directory)


@pytest.fixture(scope="session")
def unbroken(task, tmp_path_factory) -> Path:
    """What `task` gives when nothing goes wrong."""
    return _labelled(task, tmp_path_factory.mktemp("unbroken") / "labels")


@pytest.fixture(scope="session")
def small_unbroken(small_task, tmp_path_factory) -> Path:
    """What `small_task` gives when nothing goes wrong."""
    return _labelled(small_task, tmp_path_factory.mktemp("unbroken") / "labels")


def _labelled(task: Task, out: Path) -> Path:
    code = task.label(out)
    if code:
        raise RuntimeError(f"exit code {code} without any fault")
    open_store(out).verify(deep=True)
    return out
