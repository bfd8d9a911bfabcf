"""Times exported students of this checkout and of an earlier one on one utterance, taking turns.

    git worktree add ../before REVISION
    python benchmarks/device.py ../before

Both run in this environment, on one thread, in the runtime that `tfkd transcribe` would choose.
"""

from __future__ import annotations

import itertools
import sys

import paired_runs
from device_tfkd import TOKENS

CELLS, ATTENTIONS, SECONDS = ("lstm", "gru"), ("location", "additive"), (5, 15, 30)


def main() -> None:
    options = paired_runs.options_beside(
        __doc__.splitlines()[0], rounds=1, repeats=7, out="device.json"
    )
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
    revision = paired_runs.revision_of(before)
    paired_runs.write(options.out, results, {"tokens": TOKENS, "before": revision}, None)
    print(paired_runs.table(results, baselines=["before"]))


if __name__ == "__main__":
    main()
