"""A long recording that is read whole, or prepared as pieces."""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path

import timed_process

from tfkd.audio.reading import read_recording
from tfkd.config import PrepareConfig
from tfkd.data.preparation import prepare

PIECE_SECONDS = 8


def cut(folder: Path) -> None:
    """Prepares the recordings of a folder as pieces."""
    config = PrepareConfig(too_long="split", piece_seconds=PIECE_SECONDS)
    with tempfile.TemporaryDirectory() as out:
        prepare(folder, Path(out) / "store", config)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=["whole", "pieces"], required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    (recording,) = options.folder.iterdir()
    works = {"whole": (read_recording, recording), "pieces": (cut, options.folder)}
    base_mb = timed_process.resident_mb()
    timed_process.report(functools.partial(*works[options.work]), options.repeats, base_mb)


if __name__ == "__main__":
    main()
