"""What every timed child process does: threads, repetition, figures as one line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """The command line of a child process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--case", default="")
    return parser.parse_args()


def report(run: Callable[[], object], repeats: int) -> None:
    """Runs once to warm up, then `repeats` times, and prints CPU and wall seconds of each."""
    run()
    rows = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        rows.append(
            {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"runs": rows, "peak_mb": peak_mb}))
