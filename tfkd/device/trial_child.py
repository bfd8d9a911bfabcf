"""Runs in the child process of `tfkd.device.trial`, which may crash."""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np

from tfkd.device.recogniser import DeviceRecogniser
from tfkd.device.trial import REFUSED
from tfkd.errors import TfkdError

_MAX_MEMORY_BYTES = 4 * 2**30


def run(path: str, runtime: str, *lengths: str) -> None:
    """Runs the model on noise of each length, and exits with REFUSED if it raises an error.

    Args:
      path: the .tflite file.
      runtime: one of `tfkd.device.recogniser.RUNTIMES`.
      lengths: numbers of samples.
    """
    with contextlib.suppress(ImportError):  # Windows has no such limit.
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        # The caller may itself be held to less.
        is_free = hard == resource.RLIM_INFINITY
        limit = _MAX_MEMORY_BYTES if is_free else min(_MAX_MEMORY_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        recogniser = DeviceRecogniser(path, runtime=runtime, trusted=True)
        generator = np.random.default_rng(0)
        for length in map(int, lengths):
            recogniser.transcribe_waveform(0.1 * generator.standard_normal(length, np.float32))
    except TfkdError as error:
        print(json.dumps([error.message, error.remedy]), end="")
        sys.exit(REFUSED)
