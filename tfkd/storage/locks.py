"""Locks folders that only one process may write into.

This is separate from `tfkd.storage.files`, which is also imported on devices without `fcntl`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tfkd.errors import BusyError, RecordError

LOCK = ".lock"
_LOG = logging.getLogger("tfkd")


@contextlib.contextmanager
def locked(directory: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Makes a folder and locks it against other processes until the block ends.

    If the process is killed, the operating system releases the lock.

    Args:
      wait: whether to wait while another process holds the lock.
    Raises:
      BusyError: if another process holds the lock, unless this one waits.
      RecordError: if the folder cannot be made.
    """
    path = Path(directory) / LOCK
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            held.callback(os.close, descriptor)
            _lock(descriptor, path, wait)
        except BlockingIOError as error:
            raise BusyError(
                "another process is writing here",
                path=directory,
                remedy="wait until it ends, or choose another --out or work_dir",
            ) from error
        except OSError as error:
            raise RecordError(
                f"cannot lock: {error.strerror or error}",
                path=path,
                remedy="check the permissions there, or choose a disk that can lock files",
            ) from error
        yield


def _lock(descriptor: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        _LOG.warning("%s: waits until another process has done this", path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
