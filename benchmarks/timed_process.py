"""Sets threads, repeats the work and prints figures as JSON, in every timed child process."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

from sizes import VOCABULARY


def arguments() -> argparse.Namespace:
    """The command line of a child process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--case", default="", help="a variant that the program knows")
    parser.add_argument("--attention", default="additive", help="PyTorch's is always additive")
    return parser.parse_args()


def limit_threads(threads: int) -> None:
    """Holds TensorFlow to `threads` threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def resident_mb() -> float:
    """The most memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(run: Callable[[], object], repeats: int, base_mb: float) -> None:
    """Runs once to warm up, then `repeats` times, and prints CPU and wall seconds of each.

    CPU seconds of the first run tell of tracing and compiling, too. Each later run is preceded by a
    line on the standard output and waits for one on the standard input, so that `pairing` can let
    processes take turns; without an input it goes on at once.

    Args:
      base_mb: `resident_mb` after the imports, before the model was made.
    """
    cpu = time.process_time()
    run()
    warm_up, rows = time.process_time() - cpu, []
    for _ in range(repeats):
        print("waiting", flush=True)
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        rows.append(
            {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
        )
    memory = {"peak_mb": resident_mb(), "base_mb": base_mb}
    print(json.dumps({"runs": rows, "warm_up_cpu_seconds": warm_up, **memory}))
