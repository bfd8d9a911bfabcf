"""Labellers in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from forks import fork, write_messages_to

from tfkd import cli, labelling
from tfkd.config import LabelConfig
from tfkd.decoding import Decoded, decode_dataset


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


def _label(
    arguments: list[str], environment: dict[str, str], messages: Path, sender: Connection
) -> None:
    write_messages_to(messages)

    def announcing(decoder, batches) -> Iterator[Decoded]:
        for decoded in decode_dataset(decoder, batches):
            if not sender.closed:
                sender.send("decoding")
                sender.close()
            yield decoded

    labelling.decode_dataset = announcing
    os.environ.update(environment)
    cli.main(arguments)
