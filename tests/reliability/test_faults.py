"""Every write, fsync and rename of labelling fails in turn, in the C library of the process."""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from labellers import PatientLabeller, Task
from proof import SEED, Proof
from stores import assert_same_store

KILLED = 0
NEVER = 10**6


@pytest.fixture(autouse=True)
def _needs_a_compiler(fault_library: Path | None) -> None:
    if fault_library is None:
        pytest.skip("no C compiler: faults cannot be put into the C library")


def faulty(out: Path, log: Path, number: int, code: int) -> dict[str, str]:
    """Environment in which the operations below `out` fail from the n-th on."""
    return {
        "TFKD_FAULT_FOLDER": str(out),
        "TFKD_FAULT_AT": str(number),
        "TFKD_FAULT": str(code),
        "TFKD_FAULT_LOG": str(log),
    }


@pytest.fixture(scope="module")
def operations(small_task: Task, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What an unbroken run does, in order: write, fsync or rename."""
    directory = tmp_path_factory.mktemp("operations")
    environment = faulty(directory / "labels", directory / "log", NEVER, KILLED)
    assert small_task.label(directory / "labels", environment) == 0
    return (directory / "log").read_text().split()


@pytest.fixture(scope="module")
def patient(small_task: Task) -> Iterator[PatientLabeller]:
    labeller = PatientLabeller(small_task)
    yield labeller
    labeller.end()


@pytest.mark.parametrize("code", [KILLED, errno.ENOSPC, errno.EIO], ids=["kill", "ENOSPC", "EIO"])
def test_a_fault_at_every_operation(
    code: int,
    operations: list[str],
    small_task: Task,
    patient: PatientLabeller,
    small_unbroken: Path,
    tmp_path: Path,
    proof: Proof,
) -> None:
    assert set(operations) == {"write", "fsync", "rename"}
    numbers = 1 + np.random.default_rng([SEED, code]).permutation(len(operations))
    numbers = numbers[: proof.count(fast=1, full=len(operations))]
    for number in numbers:
        out = tmp_path / str(number)
        environment = faulty(out, tmp_path / "log", number, code)
        if code == KILLED:
            assert small_task.label(out, environment) == -signal.SIGKILL
        else:
            assert patient.label(out, environment) == 1
            message = small_task.messages.read_text()
            assert message.startswith(f"tfkd: error: {out}/")
            assert os.strerror(code) in message
            assert "Traceback" not in message
        assert patient.label(out) == 0
        assert_same_store(out, small_unbroken, small_task.data)
    tried = Counter(operations[number - 1] for number in numbers)
    name = errno.errorcode.get(code, "kill -9")
    proof.report(f"{name} at every operation", tried=len(numbers), **tried, other_bytes=0)
