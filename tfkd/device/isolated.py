"""Runs in the child process of `tfkd.device.isolation`, which may crash.

A request is the number of bytes of a waveform, in eight bytes, and its samples; an answer is one
line of JSON. Nothing is unpickled on either side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfkd.device.child_processes import IF_TRUSTED, limit_memory
from tfkd.device.interpreter import LoadedModel, find_runtime
from tfkd.device.metadata import read_metadata
from tfkd.errors import TfkdError


def answer_requests(path: str, runtime: str, num_threads: str, max_memory_bytes: str) -> None:
    """Loads a model, and runs it for each waveform that comes on standard input.

    Args:
      path: the .tflite file.
      runtime: one of `tfkd.device.interpreter.RUNTIMES`.
      num_threads: number of threads of the interpreter.
      max_memory_bytes: most memory that this process may take.
    """
    # An interruption from the terminal is for the caller to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_resources(int(max_memory_bytes))
    requests, answers = sys.stdin.buffer, _take_standard_output()
    model = None
    while len(size := requests.read(8)) == 8:
        waveform = np.frombuffer(requests.read(int.from_bytes(size, "little")), "<f4")
        answer: dict[str, Any]
        try:
            model = model or _load(Path(path), runtime, int(num_threads))
            rows = [dataclasses.asdict(hypothesis) for hypothesis in model.recognise(waveform)]
            answer = {"hypotheses": rows}
        except TfkdError as error:
            answer = {"error": error.message, "remedy": error.remedy}
        except MemoryError:
            limit = int(max_memory_bytes) / 2**30
            answer = {
                "error": f"the model needs more than {limit:g} GiB of memory",
                "remedy": IF_TRUSTED,
            }
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _load(path: Path, runtime: str, num_threads: int) -> LoadedModel:
    _, interpreter_class = find_runtime((runtime,))
    return LoadedModel(path, read_metadata(path), interpreter_class, num_threads)


def _take_standard_output() -> BinaryIO:
    """Keeps standard output for answers; what native code prints is discarded."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return answers


def _limit_resources(max_memory_bytes: int) -> None:
    """Limits the memory, and writes no core when the model crashes."""
    with contextlib.suppress(ImportError):  # Windows has no such limits.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(max_memory_bytes)
