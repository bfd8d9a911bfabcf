"""What other processes take of the processors, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(process: int) -> float:
    """Processor time of a process and of its children that have ended."""
    # The name, which comes before, may hold blanks; proc(5) numbers these fields 14 to 17.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def descendants(process: int) -> list[int]:
    """Its children, their children and so on, as far as they have not ended."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return children + [each for child in children for each in descendants(child)]
