"""Labellers in processes of their own, started in a fraction of TensorFlow's loading time.

A server loads the code once and forks a labeller for each request. It has one thread only, because
no tensor was made in it, so that forking is safe; see `multiprocessing`'s start method forkserver.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tfkd import cli, labelling
from tfkd.config import LabelConfig
from tfkd.decoding import Decoded, decode_dataset

_SERVER = multiprocessing.get_context("forkserver")
_ROOT = Path(__file__).parents[2]


def start_server(preloaded_library: Path | None = None) -> None:
    """Starts the server; later requests find it running.

    Args:
      preloaded_library: put before the C library in the server and in all that it forks.
    """
    _SERVER.set_forkserver_preload(["tfkd.cli", "tfkd.labelling", "tfkd.preparing", "tfkd.runs"])
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


@dataclass(frozen=True)
class Labeller:
    """A process that runs `tfkd label`.

    Attributes:
      decoding: readable once the first utterance of this process is decoded, or at its end.
      messages: file with what it wrote to standard error.
    """

    process: BaseProcess
    decoding: Connection
    messages: Path

    def wait(self) -> int:
        """The exit code; minus the signal's number where one ended it."""
        self.process.join()
        self.decoding.close()
        code = self.process.exitcode
        if code is None:
            raise RuntimeError("the process has not ended")
        return code


@dataclass(frozen=True)
class Task:
    """What is labelled: folders of a teacher's run and of utterances, and how."""

    run: Path
    data: Path
    config: LabelConfig
    scratch: Path

    def start(self, out: Path, environment: Mapping[str, str] | None = None) -> Labeller:
        """Begins, or goes on, to label into `out`."""
        arguments = ["label", str(self.run), "--data", str(self.data), "--out", str(out)]
        for name in ("beam_width", "num_hypotheses", "batch_size"):
            arguments += [f"--{name.replace('_', '-')}", str(getattr(self.config, name))]
        messages = self.scratch / "messages.txt"
        receiver, process = fork(_label, arguments, dict(environment or {}), messages)
        return Labeller(process, receiver, messages)

    def label(self, out: Path, environment: Mapping[str, str] | None = None) -> int:
        """Labels into `out`; returns the exit code."""
        return self.start(out, environment).wait()


def fork(work: Callable[..., None], *arguments: object) -> tuple[Connection, BaseProcess]:
    """Runs `work(*arguments, sender)` in a forked process; returns where it sends to, and it."""
    receiver, sender = _SERVER.Pipe(duplex=False)
    process = _SERVER.Process(target=work, args=(*arguments, sender), daemon=True)
    process.start()
    sender.close()
    return receiver, process


def _label(
    arguments: list[str], environment: dict[str, str], messages: Path, sender: Connection
) -> None:
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def announcing(decoder, batches) -> Iterator[Decoded]:
        for decoded in decode_dataset(decoder, batches):
            if not sender.closed:
                sender.send("decoding")
                sender.close()
            yield decoded

    labelling.decode_dataset = announcing
    os.environ.update(environment)
    cli.main(arguments)
