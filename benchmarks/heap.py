"""Measures memory and time of training and search with one heap and with glibc's other settings.

    python benchmarks/heap.py

Each measurement is a process of its own, and they are interleaved. Where the environment sets the
number of glibc's heaps, tfkd does not.
"""

from __future__ import annotations

import argparse
import os
import sys

import paired_runs
from sizes import SIZES

VARIANTS = {
    # What glibc does by itself.
    "heap per thread": f"MALLOC_ARENA_MAX={8 * (os.cpu_count() or 1)}",
    "one that gives back": "MALLOC_ARENA_MAX=1",
    "none gives back": f"MALLOC_TRIM_THRESHOLD_={2**31 - 1}",
}
PROGRAMS = {"training": "training_tfkd.py", "search": "decoding_tfkd.py"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=3, help="runs in each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", default="benchmarks/results/heap.json")
    options = parser.parse_args()
    results = {}
    for work, script in PROGRAMS.items():
        program = [sys.executable, script]
        variants = {name: ["env", variable, *program] for name, variable in VARIANTS.items()}
        cases = [
            paired_runs.Case(f"{work}, {size}, threads: {threads}",
                         ["--size", size, "--threads", str(threads)])
            for size in SIZES
            for threads in options.threads
        ]  # fmt: skip
        programs = {"tfkd": program, **variants}
        results |= paired_runs.measure(cases, programs, options.rounds, options.repeats)
    paired_runs.write(options.out, results, {"variants": VARIANTS}, None)
    print(paired_runs.table(results, baselines=list(VARIANTS)))


if __name__ == "__main__":
    main()
