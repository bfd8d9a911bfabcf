"""Processes that do tfkd's work to be killed at it, started in a fraction of TensorFlow's loading
time.

A server loads the code once and forks a process for each request. It has one thread only, because
no tensor was made in it, so that forking is safe; see `multiprocessing`'s start method forkserver.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_ROOT = Path(__file__).parents[1]


def start_server(preloaded_library: Path | None = None) -> None:
    """Starts the server; later requests find it running.

    Args:
      preloaded_library: put before the C library in the server and in all that it forks.
    """
    modules = (
        "cli",
        "data.preparation",
        "decoding.runs",
        "distillation.labelling",
        "training.loop",
    )
    # pytest, because the files of tests that hold the work import it.
    _SERVER.set_forkserver_preload(["pytest", *(f"tfkd.{module}" for module in modules)])
    changes = {"PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])}
    if preloaded_library is not None:
        changes["LD_PRELOAD"] = str(preloaded_library)
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def fork(work: Callable[..., None], *arguments: object) -> tuple[Connection, BaseProcess]:
    """Runs `work(*arguments, sender)` in a forked process; returns where it sends to, and it."""
    receiver, sender = _SERVER.Pipe(duplex=False)
    process = _SERVER.Process(target=work, args=(*arguments, sender), daemon=True)
    process.start()
    sender.close()
    return receiver, process


@dataclass
class Worker:
    """A process that says how far it has come, and may be killed on the way.

    Attributes:
      done: how many steps it was last heard to have done.
      messages: file with what it wrote to standard error.
    """

    process: BaseProcess
    announcements: Connection
    messages: Path
    done: int = 0

    def hear(self) -> bool:
        """Waits for the next step; returns whether there was one before the end."""
        try:
            self.done = self.announcements.recv()
        except EOFError:
            return False
        return True

    def kill_after(self, steps: int, seconds: float) -> None:
        """Kills it some time after a step, unless it has ended."""
        while self.done < steps and self.hear():
            pass
        self.process.join(seconds)
        self.process.kill()

    def wait(self) -> int:
        """The exit code; minus the signal's number where one ended it."""
        while self.hear():
            pass
        self.process.join()
        code = self.process.exitcode
        if code is None:
            raise RuntimeError("the process has not ended")
        return code


def fork_worker(work: Callable[..., None], *arguments: object, messages: Path) -> Worker:
    """Runs `work(*arguments, messages, sender)`, which sends the number of each step done."""
    announcements, process = fork(work, *arguments, messages)
    return Worker(process, announcements, messages)


def write_messages_to(path: Path) -> None:
    """Sends what this process writes to standard error to `path`, and the rest nowhere."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
