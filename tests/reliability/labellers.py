"""Labellers in processes of their own."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from forks import Worker, fork, fork_worker, write_messages_to

from tfkd import cli
from tfkd.config import LabelConfig
from tfkd.distillation import labelling, teachers
from tfkd.distillation.labelling import label_batches
from tfkd.records import Hypothesis


@dataclass(frozen=True)
class Task:
    """What is labelled: folders of a teacher's run and of utterances, and how."""

    run: Path
    data: Path
    config: LabelConfig
    scratch: Path

    @property
    def messages(self) -> Path:
        """File with what the last labeller wrote to standard error."""
        return self.scratch / "messages.txt"

    def arguments(self, out: Path) -> list[str]:
        """The command that labels into `out`."""
        arguments = ["label", str(self.run), "--data", str(self.data), "--out", str(out)]
        for name in ("beam_width", "num_hypotheses", "batch_size"):
            arguments += [f"--{name.replace('_', '-')}", str(getattr(self.config, name))]
        return arguments

    def start(self, out: Path, environment: Mapping[str, str] | None = None) -> Worker:
        """Begins, or goes on, to label into `out`; each utterance that is decoded is a step."""
        arguments = (self.arguments(out), dict(environment or {}))
        return fork_worker(_label, *arguments, messages=self.messages)

    def label(self, out: Path, environment: Mapping[str, str] | None = None) -> int:
        """Labels into `out`; returns the exit code."""
        return self.start(out, environment).wait()


class PatientLabeller:
    """A process that runs `tfkd label` as often as it is asked to.

    It loads the teacher and traces the search once only, which is nearly all of the work.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        requests, self._requests = Pipe(duplex=False)
        self._exit_codes, self._process = fork(_label_on_request, requests, task.messages)
        requests.close()

    def label(self, out: Path, environment: Mapping[str, str] | None = None) -> int:
        """Labels into `out`; returns the exit code."""
        self._requests.send((self._task.arguments(out), dict(environment or {})))
        return self._exit_codes.recv()

    def end(self) -> None:
        """Lets the process go."""
        self._requests.close()
        self._process.join()


class _OnlyOne:
    """Calls `make` once, and gives what it made ever after."""

    def __init__(self, make: Callable[..., object]) -> None:
        self._make, self._made = make, None

    def __call__(self, *arguments: object) -> object:
        self._made = self._made or self._make(*arguments)
        return self._made


def _label_on_request(requests: Connection, messages: Path, exit_codes: Connection) -> None:
    write_messages_to(messages)
    teachers.load_run = functools.cache(teachers.load_run)
    labelling.ShardLabeller = _OnlyOne(labelling.ShardLabeller)
    while True:
        try:
            arguments, environment = requests.recv()
        except EOFError:
            return
        os.truncate(messages, 0)
        os.environ.update(environment)
        try:
            cli.main(arguments)
            exit_codes.send(0)
        except SystemExit as end:
            sys.stderr.flush()
            exit_codes.send(end.code)
        for name in environment:
            del os.environ[name]


def _label(
    arguments: list[str], environment: dict[str, str], messages: Path, sender: Connection
) -> None:
    write_messages_to(messages)

    count = itertools.count(1)

    def announcing(labeller, batches) -> Iterator[tuple[str, tuple[Hypothesis, ...]]]:
        for labelled in label_batches(labeller, batches):
            sender.send(next(count))
            yield labelled

    labelling.label_batches = announcing
    os.environ.update(environment)
    cli.main(arguments)
