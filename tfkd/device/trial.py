"""Tries a .tflite of unknown origin in a child process.

The interpreters check little of a graph, and a wrong index in it crashes the process. The digest in
the metadata finds damage only: whoever writes a malicious graph can compute its digest, too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tfkd.device.metadata import DeviceMetadata
from tfkd.errors import CheckpointError
from tfkd.storage.json_files import parse_json

_TIMEOUT_SECONDS = 120
_LONG_SECONDS = 2
# Exit code of a child in which a TfkdError was raised; it prints the error's message and remedy.
REFUSED = 3

# The folder of this tfkd comes first in sys.path, so that the child imports the same package.
_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from tfkd.device.trial_child import run
run(*sys.argv[2:])
"""


def try_in_child(path: Path, runtime: str, metadata: DeviceMetadata) -> None:
    """Loads the model and runs it on short and long noise in a child process.

    Raises:
      CheckpointError: if the child raises an error, crashes, or does not end in time.
    """
    long = min(metadata.max_samples, _LONG_SECONDS * metadata.sample_rate_hz)
    lengths = [str(metadata.min_samples), str(max(metadata.min_samples, long))]
    package = Path(__file__).parents[2]
    command = [sys.executable, "-c", _CHILD, str(package), str(path), runtime, *lengths]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"the model took more than {_TIMEOUT_SECONDS} s for {_LONG_SECONDS} s of noise",
            path=path,
            remedy="copy the file again, or make it with `tfkd export`",
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
