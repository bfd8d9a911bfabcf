"""Runs known programs that write a recording into a pipe, as lines of Kaldi's wav.scp do.

No shell is started: the arguments are a list, a program is looked up by its name in PATH only, and
the time and the output are limited.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tfkd.audio.outcomes import keeping_outcomes
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio

FILE = "{}"
MAX_SECONDS = 600.0
MAX_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
_SIGPIPE = -13


@dataclass(frozen=True)
class Command:
    """Programs that read a file and write audio to their output.

    Attributes:
      stages: the words of each program, whose output the next one reads; the word `{}` stands for
        the file.
      is_needed: whether they change the audio; False if they only decode the file.
      channel: the one that they take out of the file, counted from 0; None if they take all.
    """

    stages: tuple[tuple[str, ...], ...]
    is_needed: bool
    channel: int | None = None

    def __str__(self) -> str:
        return " | ".join(" ".join(words) for words in self.stages)


def output_of(command: Command, path: Path) -> bytes:
    """Runs a command on a file, and returns what it writes.

    Raises:
      UnusableAudio: undecodable_audio, if a program is not installed or fails, or writes more than
        MAX_BYTES, or takes longer than MAX_SECONDS.
    """
    programs = tuple(_installed(words[0], path) for words in command.stages)
    return _output_of(command, programs, path)


# Segments of one recording follow each other: its audio is kept for the next of them.
@keeping_outcomes(maxsize=2)
def _output_of(command: Command, programs: tuple[str, ...], path: Path) -> bytes:
    stages = [
        [program, *(str(path) if word == FILE else word for word in words[1:])]
        for program, words in zip(programs, command.stages, strict=True)
    ]
    with tempfile.TemporaryFile() as said:
        output, codes = _run(stages, said, path)
        for words, code in zip(command.stages, codes, strict=True):
            if code not in (0, _SIGPIPE):
                said.seek(0)
                last = said.read()[-500:].decode(errors="replace").strip().rpartition("\n")[2]
                what = f"{words[0]} failed with code {code}{f': {last}' if last else ''}"
                raise UnusableAudio(UNDECODABLE, what, path=path, remedy="run the command by hand")
    return output


def _installed(program: str, path: Path) -> str:
    found = shutil.which(program)
    if found is None:
        raise UnusableAudio(
            UNDECODABLE,
            f"needs {program}, which is not installed",
            path=path,
            remedy=f"install {program}, or convert the audio to FLAC or WAV",
        )
    return found


def _run(stages: Sequence[list[str]], said: IO[bytes], path: Path) -> tuple[bytes, list[int]]:
    """Runs the programs; returns the output of the last, and the exit codes of all."""
    processes: list[subprocess.Popen] = []
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        for process in processes:
            process.kill()

    timer = threading.Timer(MAX_SECONDS, stop)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(timer.cancel)
        source: IO[bytes] | int = subprocess.DEVNULL
        for arguments in stages:
            process = subprocess.Popen(arguments, stdin=source, stdout=subprocess.PIPE, stderr=said)
            cleanup.enter_context(process)
            cleanup.callback(process.kill)
            if not isinstance(source, int):
                source.close()  # So that the earlier program learns when this one ends.
            processes.append(process)
            source = cast(IO[bytes], process.stdout)
        timer.start()
        output = _limited(cast(IO[bytes], source), path)
        codes = [process.wait() for process in processes]
    if is_late.is_set():
        what = f"its command ran longer than {MAX_SECONDS:g} s"
        raise UnusableAudio(UNDECODABLE, what, path=path, remedy="run the command by hand")
    return output, codes


def _limited(stream: IO[bytes], path: Path) -> bytes:
    output = bytearray()
    while block := stream.read(_BLOCK_BYTES):
        output += block
        if len(output) > MAX_BYTES:
            what = f"its command writes more than {MAX_BYTES} bytes"
            raise UnusableAudio(UNDECODABLE, what, path=path, remedy="split the recording")
    return bytes(output)
