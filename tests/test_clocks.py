"""Measuring the processor time of other processes works while some of them end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from clocks import cpu_seconds, descendants


@contextmanager
def threads_that_come_and_go() -> Iterator[None]:
    ended = threading.Event()

    def start_others() -> None:
        while not ended.is_set():
            threading.Thread(target=time.sleep, args=(0.0005,)).start()

    starter = threading.Thread(target=start_others)
    starter.start()
    try:
        yield
    finally:
        ended.set()
        starter.join()


def test_children_are_found_while_threads_end():
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with threads_that_come_and_go():
            assert all(sleeper.pid in descendants(os.getpid()) for _ in range(300))
    finally:
        sleeper.communicate(b"\n")
    assert sleeper.pid not in descendants(os.getpid())


def test_a_process_that_is_gone_took_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert cpu_seconds(gone.pid) == 0
    assert descendants(gone.pid) == []
