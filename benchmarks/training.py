"""Times one training step of tfkd, plain Keras and PyTorch, interleaved, and compares them.

    python benchmarks/training.py --torch-python TORCH_ENV/bin/python

Each measurement is a process of its own. PyTorch lives in an environment of its own (`pip install
torch numpy`); without --torch-python only Keras is compared.
"""

from __future__ import annotations

import argparse
import sys

import paired_runs
from sizes import BATCH, FRAMES, SIZES, TOKENS, VOCABULARY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=3, help="steps in each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", default="benchmarks/results/training.json")
    options = parser.parse_args()
    programs = {"tfkd": [sys.executable, "training_tfkd.py"],
                "keras": [sys.executable, "training_keras.py"]}  # fmt: skip
    if options.torch_python:
        programs["torch"] = [options.torch_python, "training_torch.py"]
    cases = [
        paired_runs.Case(f"{size}, {threads} thread{'s' * (threads > 1)}",
                     ["--size", size, "--threads", str(threads)])
        for threads in options.threads
        for size in SIZES
    ]  # fmt: skip
    results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    setting = {"batch": BATCH, "frames": FRAMES, "tokens": TOKENS, "vocabulary": VOCABULARY}
    paired_runs.write(options.out, results, setting, options.torch_python)
    print(paired_runs.table(results, baselines=[name for name in programs if name != "tfkd"]))


if __name__ == "__main__":
    main()
