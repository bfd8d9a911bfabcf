"""Stages of a job: each knows from its own records what is done, so a rerun goes on."""

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
      outputs: what it writes, relative to the work folder.
      markers: files that are there once it ended.
      action: does it, or finds that it is done.
    """

    name: str
    outputs: tuple[str, ...]
    markers: tuple[str, ...]
    action: Callable[[], None]

    def is_done(self, work: Path) -> bool:
        """Whether the stage ended once; running it again verifies that."""
        return all((work / marker).exists() for marker in self.markers)


def run_stages(stages: Sequence[Stage], work: Path, announce: Callable[[str], None]) -> None:
    """Runs stages one after another and keeps how long each took when it really ran."""
    for number, stage in enumerate(stages, 1):
        was_done = stage.is_done(work)
        start = time.perf_counter()
        announce(f"[{number}/{len(stages)}] {stage.name}")
        stage.action()
        seconds = time.perf_counter() - start
        announce(f"[{number}/{len(stages)}] {stage.name}: {seconds:.0f} s")
        if not was_done:
            write_json(work / _SECONDS, {**stage_seconds(work), stage.name: round(seconds, 1)})


def stage_seconds(work: Path) -> dict[str, float]:
    """Seconds of each stage that ran in this work folder."""
    path = work / _SECONDS
    return read_json_object(path) if path.exists() else {}
