"""Tries a .tflite of unknown origin in a process of its own.

A digest is no signature: whoever makes up a graph can compute it, too. The interpreters check
little of what they load, and a wrong index in a graph ends the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tfkd.device.metadata import DeviceMetadata
from tfkd.errors import CheckpointError
from tfkd.storage.json_files import parse_json

_MOST_SECONDS = 120
_LONG_SECONDS = 2
# Exit code of a child that was refused what it tried; it prints the error's message and remedy.
REFUSED = 3

# The folder of tfkd comes first: the child need not find the package where this process did.
_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from tfkd.device.trial_child import run
run(*sys.argv[2:])
"""


def try_in_child(path: Path, runtime: str, metadata: DeviceMetadata) -> None:
    """Loads and runs the model on noise, short and long, in another process.

    Raises:
      CheckpointError: if that process raises, crashes, or does not end.
    """
    long = min(metadata.max_samples, _LONG_SECONDS * metadata.sample_rate_hz)
    lengths = [str(metadata.min_samples), str(max(metadata.min_samples, long))]
    package = Path(__file__).parents[2]
    command = [sys.executable, "-c", _CHILD, str(package), str(path), runtime, *lengths]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"the model did not end within {_MOST_SECONDS} s on {_LONG_SECONDS} s of noise",
            path=path,
        ) from error
    if done.returncode == REFUSED:
        message, remedy = parse_json(done.stdout.rpartition("\n")[2])
        raise CheckpointError(message, path=path, remedy=remedy)
    if done.returncode:
        raise CheckpointError(
            f"the model crashes (exit code {done.returncode})",
            path=path,
            remedy="copy the file again, or make it with `tfkd export`",
        )
