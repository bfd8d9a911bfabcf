"""Keeps off standard error what native libraries write there by themselves.

TensorFlow above 2.18 and LiteRT greet on standard error before any of their settings is read, so
that no variable of the environment stops them. What goes wrong comes as an exception all the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_STDERR = 2


class _Silence:
    """Discards standard error from the begin of the first block to the end of the last one.

    The file descriptor belongs to the process: if each of several threads kept and restored it,
    one of them would keep what another has redirected, and restore nothing.
    """

    def __init__(self) -> None:
        self._lock, self._blocks, self._kept = threading.Lock(), 0, -1

    def begin(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._kept = os.dup(_STDERR)
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), _STDERR)
            self._blocks += 1

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                os.dup2(self._kept, _STDERR)
                os.close(self._kept)


_SILENCE = _Silence()


@contextlib.contextmanager
def without_native_messages() -> Iterator[None]:
    """Discards whatever the process writes to standard error while the block runs.

    It does nothing in a process whose standard error is closed.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        _SILENCE.begin()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        _SILENCE.end()
