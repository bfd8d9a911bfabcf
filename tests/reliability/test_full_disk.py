"""A disk of 8 MiB that fills up while it is labelled onto."""

from __future__ import annotations

import ctypes
import os
import shutil
from multiprocessing.connection import Connection
from pathlib import Path

import forks
import numpy as np
import pytest
from labellers import Task
from proof import SEED, Proof
from stores import assert_same_store, digests

from tfkd.decoding.runs import load_run
from tfkd.distillation.labelling import ShardLabeller, label_store
from tfkd.errors import RecordError
from tfkd.records import open_store
from tfkd.storage.files import directory_bytes

_DISK_BYTES = 8 * 2**20
# From linux/sched.h and sys/mount.h.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def test_a_full_disk_costs_nothing_that_was_there(
    task: Task, unbroken: Path, small_unbroken: Path, tmp_path: Path, proof: Proof
) -> None:
    count = proof.count(fast=1, full=25)
    # From nothing to nearly enough; at least the plan fails to be written.
    free = np.random.default_rng(SEED).integers(directory_bytes(unbroken), size=count).tolist()
    disk = tmp_path / "disk"
    disk.mkdir()
    answers, process = forks.fork(_fill_and_free, task, unbroken, small_unbroken, disk, free)
    rounds = []
    while True:
        try:
            answer = answers.recv()
        except EOFError:
            break
        if isinstance(answer, OSError):
            pytest.skip(f"no file system can be mounted here: {answer}")
        rounds.append(answer)
    process.join()
    assert process.exitcode == 0
    assert rounds == free
    proof.report("full disk", disk_bytes=_DISK_BYTES, rounds=len(rounds), earlier_output="intact")


def _fill_and_free(
    task: Task,
    unbroken: Path,
    earlier: Path,
    disk: Path,
    free: list[int],
    answers: Connection,
) -> None:
    """In a process of its own: the disk is seen, and lives, only there."""
    try:
        _mount_small_disk(disk)
    except OSError as error:
        answers.send(error)
        return
    kept = shutil.copytree(earlier, disk / "earlier")
    # Made once: loading and tracing are nearly all of the work.
    labeller = ShardLabeller(load_run(task.run), open_store(task.data), task.config)
    for free_bytes in free:
        filler = disk / "filler"
        _fill(filler, free_bytes)
        out = disk / "labels"
        with pytest.raises(RecordError, match="No space left on device") as raised:
            label_store(labeller, out)
        assert Path(str(raised.value.path)).is_relative_to(out)
        assert not list(disk.rglob("*.tmp"))
        assert digests(kept) == digests(earlier)
        open_store(kept).verify(deep=True)
        filler.unlink()
        label_store(labeller, out)
        assert_same_store(out, unbroken, task.data)
        shutil.rmtree(out)
        answers.send(free_bytes)


def _fill(filler: Path, free_bytes: int) -> None:
    """Takes all of the disk but `free_bytes`."""
    status = os.statvfs(filler.parent)
    with open(filler, "wb") as file:
        file.write(bytes(status.f_bavail * status.f_frsize - free_bytes))


def _mount_small_disk(disk: Path) -> None:
    """Mounts a file system of its own at `disk`, in a namespace of this process; no root needed.

    Raises:
      OSError: if the kernel does not let it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    options = f"size={_DISK_BYTES}".encode()
    _call("mount", b"tmpfs", os.fsencode(disk), b"tmpfs", ctypes.c_ulong(0), options)


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
