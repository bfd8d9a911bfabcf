"""Times one training step in each precision, with and without XLA, interleaved.

    python benchmarks/precision.py

Each measurement is a process of its own. The ratio is that of float32 without XLA to the variant:
above one, the variant saves time.
"""

from __future__ import annotations

import argparse
import sys

import paired_runs
from sizes import BATCH, FRAMES, SIZES, TOKENS, VOCABULARY

# XLA has no product in bfloat16 on a CPU.
VARIANTS = ("mixed_bfloat16", "mixed_float16", "xla", "mixed_float16+xla")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=2, help="steps in each process")
    parser.add_argument("--out", default="benchmarks/results/precision.json")
    options = parser.parse_args()
    program = [sys.executable, "training_tfkd.py"]
    programs = {"tfkd": program, **{name: [*program, "--case", name] for name in VARIANTS}}
    cases = [paired_runs.Case(size, ["--size", size, "--threads", "1"]) for size in SIZES]
    results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    setting = {"batch": BATCH, "frames": FRAMES, "tokens": TOKENS, "vocabulary": VOCABULARY}
    paired_runs.write(options.out, results, setting, None)
    print(paired_runs.table(results, baselines=VARIANTS))


if __name__ == "__main__":
    main()
