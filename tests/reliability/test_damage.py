"""Damage of a finished store is found before TensorFlow, which it could crash, reads a byte."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labellers import Task
from proof import SEED, Proof
from test_records import swap_contents

from tfkd.config import PrepareConfig
from tfkd.data.given_audio import utterance_store
from tfkd.errors import TfkdError
from tfkd.records import masked_crc32c, open_store
from tfkd.records.shards import sidecar_path


@pytest.fixture
def store(unbroken: Path, tmp_path: Path) -> Path:
    """Finished labels that a test may damage."""
    return shutil.copytree(unbroken, tmp_path / "labels")


@pytest.fixture
def assert_detected(store: Path, prepare_config: PrepareConfig) -> Callable[[Path], None]:
    """The door through which every command opens a store for TensorFlow must stay shut."""

    def check(damaged: Path) -> None:
        with (
            pytest.raises(TfkdError) as raised,
            utterance_store(store, prepare_config),
        ):
            pytest.fail(f"damage of {damaged.name} is not seen")
        assert Path(str(raised.value.path)).is_relative_to(store)

    return check


def test_a_shard_cut_at_any_byte_is_detected(store: Path, assert_detected, proof: Proof) -> None:
    path = open_store(store).shard_paths[1]
    whole = path.read_bytes()
    lengths = np.random.default_rng(SEED).permutation(len(whole))
    lengths = lengths[: proof.count(fast=50, full=len(whole))]
    for length in lengths.tolist():
        path.write_bytes(whole[:length])
        assert_detected(path)
    proof.report("shard cut at every byte", cuts=len(lengths), detected=len(lengths))


def test_bit_flips_in_any_file_are_detected(store: Path, assert_detected, proof: Proof) -> None:
    flips = proof.count(fast=50, full=10_000)
    generator = np.random.default_rng(SEED)
    files = sorted(file for file in store.rglob("*") if file.is_file() and file.stat().st_size)
    for _ in range(flips):
        path = files[generator.integers(len(files))]
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        assert_detected(path)
        path.write_bytes(whole)
    open_store(store).verify(deep=True)
    proof.report("bit flips", flips=flips, files=len(files), detected=flips)


def test_shards_that_changed_places_are_detected(store: Path, assert_detected, proof) -> None:
    paths = open_store(store).shard_paths
    pairs = list(itertools.combinations(paths, 2))
    pairs = pairs[: proof.count(fast=5, full=len(pairs))]
    for first, second in pairs:
        swap_contents(first, second)
        assert_detected(first)
        swap_contents(sidecar_path(first), sidecar_path(second))
        assert_detected(first)
        swap_contents(first, second)
        swap_contents(sidecar_path(first), sidecar_path(second))
    open_store(store).verify(deep=True)
    proof.report("shards swapped", pairs=len(pairs), detected=len(pairs))


def test_a_header_of_2_to_the_40_bytes_ends_in_one_line(
    task: Task, tmp_path: Path, proof: Proof
) -> None:
    """TensorFlow's own reader dies on it."""
    data = shutil.copytree(task.data, tmp_path / "data")
    path = open_store(data).shard_paths[0]
    length = struct.pack("<Q", 2**40)
    header = length + struct.pack("<I", masked_crc32c(length))
    path.write_bytes(header + path.read_bytes()[len(header) :])
    damaged = Task(task.run, data, task.config, tmp_path)
    assert damaged.label(tmp_path / "labels") == 1
    (line,) = (tmp_path / "messages.txt").read_text().splitlines()
    assert line.startswith(
        f"tfkd: error: {path}: damaged record 0 at byte 0: it declares 1099511627"
    )
    proof.report("header of 2^40 bytes", exit_code=1)
