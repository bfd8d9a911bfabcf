"""kill -9 at any moment of labelling costs nothing: the same command ends with the same bytes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from labellers import Task
from proof import SEED, Proof
from stores import assert_same_store

from tfkd.errors import RecordError
from tfkd.records import open_store
from tfkd.records.shards import shard_ids


@pytest.mark.slow
def test_kill_9_at_random_moments(task: Task, unbroken: Path, tmp_path: Path, proof: Proof) -> None:
    wanted = proof.count(fast=2, full=200)
    generator = np.random.default_rng(SEED)
    pause = seconds_a_shard(task, tmp_path / "timed")
    kills = runs = stores = 0
    while kills < wanted:
        out = tmp_path / str(stores)
        stores += 1
        while True:
            runs += 1
            labeller = task.start(out)
            # Each utterance that is left to decode is as likely as every other.
            last = generator.integers(1, max(1, utterances_left(task, out)), endpoint=True)
            labeller.kill_after(last, pause * generator.uniform())
            code = labeller.wait()
            kills += code == -signal.SIGKILL
            if code == 0:
                break
            assert code == -signal.SIGKILL
            assert_not_mistaken_for_whole(out)
        assert_same_store(out, unbroken, task.data)
    proof.report(
        "kill -9 at random moments",
        kills=kills,
        runs=runs,
        stores=stores,
        lost=0,
        twice=0,
        other_bytes=0,
    )


def seconds_a_shard(task: Task, out: Path) -> float:
    """From the first decoded utterance to the end, for each shard."""
    labeller = task.start(out)
    assert labeller.hear()
    begin = time.monotonic()
    assert labeller.wait() == 0
    return (time.monotonic() - begin) / len(open_store(out).shard_paths)


def utterances_left(task: Task, out: Path) -> int:
    """Those of shards without a description; shards are labelled in order."""
    described = len(list(out.glob("shards/*.json")))
    shards = open_store(task.data).shard_paths[described:]
    return sum(len(shard_ids(path)) for path in shards)


def assert_not_mistaken_for_whole(out: Path) -> None:
    """What a kill leaves is refused by readers, unless it came after the last write."""
    if (out / "complete.json").exists():
        open_store(out).verify(deep=True)
        return
    with pytest.raises(RecordError, match="is not complete"):
        open_store(out)


def test_a_second_labeller_is_refused(task: Task, unbroken: Path, tmp_path: Path, proof) -> None:
    rounds = proof.count(fast=1, full=10)
    for number in range(rounds):
        out = tmp_path / str(number)
        first = task.start(out)
        assert first.hear()
        # It must not end before the second has come.
        os.kill(first.process.pid, signal.SIGSTOP)
        second = task.start(out)
        assert second.wait() == 1
        assert f"{out}: another process is writing here" in second.messages.read_text()
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.wait() == 0
        assert_same_store(out, unbroken, task.data)
    proof.report("two labellers in one directory", rounds=rounds, refused=rounds)
