"""Reads from /proc how much processor time other processes take."""

from __future__ import annotations

import os
from pathlib import Path

# What reading about a process or thread that has just ended raises.
_ENDED = (FileNotFoundError, ProcessLookupError)


def cpu_seconds(process: int) -> float:
    """Processor time of a process and of its children that have ended; 0 once it is gone."""
    # The name, which comes before, may hold blanks; proc(5) numbers these fields 14 to 17.
    fields = _read(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def descendants(process: int) -> list[int]:
    """Its children, their children and so on, as far as they have not ended."""
    threads = Path(f"/proc/{process}/task")
    children = [
        int(child)
        for thread in _names(threads)
        for child in _read(threads / thread / "children").split()
    ]
    return children + [each for child in children for each in descendants(child)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except _ENDED:
        return ""


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except _ENDED:
        return []
