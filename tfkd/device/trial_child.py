"""The other process of `tfkd.device.trial`: it may crash."""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np

from tfkd.device.recogniser import DeviceRecogniser
from tfkd.device.trial import REFUSED
from tfkd.errors import TfkdError

_MOST_BYTES = 4 * 2**30


def run(path: str, runtime: str, *lengths: str) -> None:
    """Runs the model on noise of each length; ends by itself only if it can be run, or is refused.

    Args:
      lengths: in samples.
    """
    with contextlib.suppress(ImportError):  # There is no such limit on Windows.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    try:
        recogniser = DeviceRecogniser(path, runtime=runtime, trusted=True)
        generator = np.random.default_rng(0)
        for length in map(int, lengths):
            recogniser.transcribe_waveform(0.1 * generator.standard_normal(length, np.float32))
    except TfkdError as error:
        print(json.dumps([error.message, error.remedy]), end="")
        sys.exit(REFUSED)
