"""Times exported students of this checkout and of an earlier one on one utterance, taking turns.

    git worktree add ../before REVISION
    python benchmarks/device.py ../before

Both run in this environment, on one thread, in the runtime that `tfkd transcribe` would choose.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import paired_runs
from device_tfkd import TOKENS

CELLS, ATTENTIONS, SECONDS = ("lstm", "gru"), ("location", "additive"), (5, 15, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="checkout of the earlier revision")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=7, help="runs in each process")
    parser.add_argument("--out", default="benchmarks/results/device.json")
    options = parser.parse_args()
    before = options.before.resolve()
    cases = [
        paired_runs.Case(
            f"{cell}, {attention}, {seconds} s",
            ["--cell", cell, "--attention", attention, "--seconds", str(seconds)],
        )
        for cell, attention, seconds in itertools.product(CELLS, ATTENTIONS, SECONDS)
    ]
    program = [sys.executable, "device_tfkd.py"]
    programs = {"tfkd": program, "before": ["env", f"PYTHONPATH={before}", *program]}
    results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    command = ["git", "-C", str(before), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    paired_runs.write(options.out, results, {"tokens": TOKENS, "before": revision}, None)
    print(paired_runs.table(results, baselines=["before"]))


if __name__ == "__main__":
    main()
