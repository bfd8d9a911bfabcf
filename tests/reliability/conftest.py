"""A teacher, what it labels, and the result of an unbroken run."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import labellers
import pytest
from labellers import Task

from tfkd.preparing import prepare
from tfkd.records import open_store

# Many shards: each is a moment of its own to be killed in.
SHARD_SIZE = 2


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """faults.c, compiled; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="session")
def new_task(
    teacher, label_config, fault_library, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Task]:
    """Makes the task of labelling a folder of utterances."""
    labellers.start_server(fault_library)

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
