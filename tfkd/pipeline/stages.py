"""Stages of a job; each finds its finished part on disk, so a rerun continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfkd.storage.files import write_json
from tfkd.storage.json_files import read_json_object

_SECONDS = "seconds.json"
RESULTS = "results.json"


@dataclass(frozen=True)
class Stage:
    """One step of a job.

    Attributes:
      name: shown to the user.
      outputs: files and folders that it writes, relative to the work folder.
      markers: files that exist once it has finished, relative to the work folder.
      action: runs it; does nothing but verify if it has finished.
    """

    name: str
    outputs: tuple[str, ...]
    markers: tuple[str, ...]
    action: Callable[[], None]

    def is_done(self, work: Path) -> bool:
        """Whether the stage has finished; running it again verifies its files."""
        return all((work / marker).exists() for marker in self.markers)


def run_stages(stages: Sequence[Stage], work: Path, announce: Callable[[str], None]) -> None:
    """Runs stages one after another; notes the seconds of those that were not finished before."""
    for number, stage in enumerate(stages, 1):
        was_done = stage.is_done(work)
        earlier = stage_seconds(work).get(stage.name, 0.0)
        start = time.perf_counter()
        announce(f"[{number}/{len(stages)}] {stage.name}")
        try:
            stage.action()
        finally:
            seconds = time.perf_counter() - start
            if not was_done:
                noted = {**stage_seconds(work), stage.name: round(earlier + seconds, 1)}
                write_json(work / _SECONDS, noted)
        announce(f"[{number}/{len(stages)}] {stage.name}: {seconds:.0f} s")


def stage_seconds(work: Path) -> dict[str, float]:
    """Reads how many seconds each stage took in this work folder."""
    path = work / _SECONDS
    return read_json_object(path) if path.exists() else {}
