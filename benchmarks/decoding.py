"""Times beam search with tfkd and with PyTorch, interleaved, and compares them.

    python benchmarks/decoding.py --torch-python TORCH_ENV/bin/python

Both encode 16 utterances of 10 s and decode them with width 10; the end is impossible, so that
every run takes 100 steps. Each measurement is a process of its own. PyTorch lives in an environment
of its own (`pip install torch numpy`); without --torch-python there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import sys

import paired_runs
from sizes import BATCH, BEAM_WIDTH, FRAMES, TOKENS, VOCABULARY

# Name, size, vocabulary, attention; PyTorch's attention is additive in each.
CASES = [
    ("teacher", "teacher", VOCABULARY, "additive"),
    ("teacher, V=1000", "teacher", 1000, "additive"),
    ("teacher, location-aware", "teacher", VOCABULARY, "location"),
    ("student", "student", VOCABULARY, "additive"),
    ("student, V=1000", "student", 1000, "additive"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=5, help="decoded batches in each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", default="benchmarks/results/decoding.json")
    options = parser.parse_args()
    programs = {"tfkd": [sys.executable, "decoding_tfkd.py"]}
    if options.torch_python:
        programs["torch"] = [options.torch_python, "decoding_torch.py"]
    cases = [
        paired_runs.Case(f"{name}, {threads} thread{'s' * (threads > 1)}",
                     ["--size", size, "--vocabulary", str(vocabulary), "--attention", attention,
                      "--threads", str(threads)])
        for threads in options.threads
        for name, size, vocabulary, attention in CASES
    ]  # fmt: skip
    results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    for by_name in results.values():
        for row in by_name.values():
            row["utterances_per_second"] = BATCH / row["median_wall_seconds"]
    setting = {"batch": BATCH, "frames": FRAMES, "tokens": TOKENS, "beam_width": BEAM_WIDTH}
    paired_runs.write(options.out, results, setting, options.torch_python)
    print(paired_runs.table(results, baselines=[name for name in programs if name != "tfkd"]))


if __name__ == "__main__":
    main()
