"""Runs a .tflite of unknown origin in a child process, for as long as it is used.

The interpreters check little of a graph, and a wrong index in it crashes the process. The digest in
the metadata finds damage only: whoever writes a malicious graph can compute its digest, too. A
trial is not enough, because a read out of bounds need not crash each time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tfkd.device.child_processes import IF_TRUSTED, child_command
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.errors import CheckpointError, TfkdError
from tfkd.storage.json_files import parse_json

# The limit of each call, longer for long audio: a first call loads the model on a busy machine.
MIN_SECONDS = 120
SECONDS_PER_SECOND_OF_AUDIO = 60
_MAX_ANSWER_BYTES = 16 * 2**20
# A process that has crashed may still be writing its core.
_ENDING_SECONDS = 10


class IsolatedModel:
    """A .tflite in a child process, with the interface of `LoadedModel`.

    The child starts with the first call. If it ends, or this process is forked, the next call
    starts another.

    Args:
      path: file made by `tfkd export`.
      sample_rate_hz: sample rate of the waveforms.
      runtime: one of `tfkd.device.interpreter.RUNTIMES`.
      num_threads: number of threads of the interpreter.
      max_memory_bytes: most memory that the child may take.
    """

    def __init__(
        self,
        path: Path,
        sample_rate_hz: int,
        runtime: str,
        num_threads: int,
        max_memory_bytes: int,
    ) -> None:
        self._path, self._sample_rate_hz = path, sample_rate_hz
        arguments = (path.absolute(), runtime, num_threads, max_memory_bytes)
        self._command = child_command("tfkd.device.isolated", "answer_requests", *arguments)
        self._child: _Child | None = None

    def recognise(self, waveform: np.ndarray) -> list[DeviceHypothesis]:
        """Maps a waveform, float32 [N], to its hypotheses, best first.

        Raises:
          CheckpointError: if the child raises an error, crashes, or does not answer in time.
          TfkdError: if no child can be started.
        """
        if self._child is None or self._child.owner != os.getpid() or self._child.has_ended():
            self._child = _Child(self._path, self._command)
        audio_seconds = waveform.size / self._sample_rate_hz
        seconds = MIN_SECONDS + SECONDS_PER_SECOND_OF_AUDIO * audio_seconds
        try:
            answer = self._child.ask(waveform.astype("<f4").tobytes(), seconds)
        except BaseException:
            # An answer that comes after an interruption must not be taken for that of a later call.
            self._child.end()
            self._child = None
            raise
        if "error" in answer:
            raise CheckpointError(answer["error"], path=self._path, remedy=answer["remedy"])
        return [
            DeviceHypothesis(**row | {"token_ids": tuple(row["token_ids"])})
            for row in answer["hypotheses"]
        ]


class _Child:
    """A process that runs `tfkd.device.isolated`; it is killed with the last reference to it."""

    def __init__(self, path: Path, command: list[str]) -> None:
        self.owner = os.getpid()
        self._path = path
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise TfkdError(
                f"cannot start a process to run the model in: {error.strerror or error}",
                path=path,
                remedy=IF_TRUSTED,
            ) from error
        self.end = weakref.finalize(self, _end, self._process)

    def has_ended(self) -> bool:
        """Whether the process has ended, for example because the system needed its memory."""
        return self._process.poll() is not None

    def ask(self, request: bytes, seconds: float) -> dict[str, Any]:
        """Sends a waveform and waits for the answer.

        Raises:
          CheckpointError: if the process ends instead, or does not answer within `seconds`.
        """
        requests, answers = _pipes(self._process)
        start = time.monotonic()
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            # If the process has ended, its answer or its exit code says why.
            with contextlib.suppress(OSError):
                requests.write(len(request).to_bytes(8, "little") + request)
                requests.flush()
            line = answers.readline(_MAX_ANSWER_BYTES)
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return parse_json(line)
        exit_code = _end(self._process, _ENDING_SECONDS)
        if time.monotonic() - start >= seconds:
            reason = f"the model does not end within {seconds:.0f} s"
        else:
            reason = f"the model crashes ({_name_of(exit_code)})"
        raise CheckpointError(
            reason, path=self._path, remedy="copy the file again, or make it with `tfkd export`"
        )


def _end(process: subprocess.Popen, grace_seconds: float = 0) -> int:
    """Kills a process that does not end by itself; returns its exit code."""
    try:
        return process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        for pipe in _pipes(process):
            # Closing flushes what the process has not taken.
            with contextlib.suppress(OSError):
                pipe.close()


def _pipes(process: subprocess.Popen) -> tuple[IO[bytes], IO[bytes]]:
    """Its standard input and output."""
    return cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)


def _name_of(exit_code: int) -> str:
    name = signal.strsignal(-exit_code) if exit_code < 0 else None
    return name or f"exit code {exit_code}"
