"""Stages of a job; each finds its finished part on disk, so a rerun continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfkd.errors import TfkdError
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
      check: whether it has finished with these settings; raises the error with which `action` would
        refuse what lies there. It reads no audio.
      needs: names of the stages whose outputs it reads.
    """

    name: str
    outputs: tuple[str, ...]
    markers: tuple[str, ...]
    action: Callable[[], None]
    check: Callable[[], bool]
    needs: tuple[str, ...] = ()

    def is_done(self, work: Path) -> bool:
        """Whether the stage has finished; running it again verifies its files."""
        return all((work / marker).exists() for marker in self.markers)


@dataclass(frozen=True)
class State:
    """The state of a stage, or of a student, before it is run.

    Attributes:
      words: shown to the user.
      error: the error with which running it would end.
    """

    words: str
    error: TfkdError | None = None


TO_DO, DONE = State("to do"), State("done, will be verified")


def states_of(stages: Sequence[Stage], work: Path) -> dict[str, State]:
    """Tells the state of each stage by its name; what it finds is what `run_stages` would find."""
    states: dict[str, State] = {}
    for stage in stages:
        states[stage.name] = _state(stage, work, states)
    return states


def _state(stage: Stage, work: Path, earlier: Mapping[str, State]) -> State:
    if (pending := first_pending(stage.needs, earlier)) is not None:
        return known_after(pending) if stage.is_done(work) else TO_DO
    try:
        return DONE if stage.check() else TO_DO
    except TfkdError as error:
        return State("refused", error)


def first_pending(names: Iterable[str], states: Mapping[str, State]) -> str | None:
    """Returns the first of some stages that has not finished."""
    return next((name for name in names if states[name] != DONE), None)


def known_after(name: str) -> State:
    """The state of what has finished, but was perhaps made of something else."""
    return State(f"finished; checked after {name}")


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
