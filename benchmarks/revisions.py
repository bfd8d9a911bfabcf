"""Times a training step and a search of this checkout and of an earlier one, taking turns.

    git worktree add ../before REVISION
    python benchmarks/revisions.py ../before

Both run in this environment, each with the benchmark programs of its own checkout, one thread.
"""

from __future__ import annotations

import sys

import paired_runs
from sizes import BATCH, FRAMES, SIZES, TOKENS, VOCABULARY

PROGRAMS = {"training step": "training_tfkd.py", "search": "decoding_tfkd.py"}


def main() -> None:
    options = paired_runs.options_beside(
        __doc__.splitlines()[0], rounds=3, repeats=5, out="revisions.json"
    )
    before = options.before.resolve()
    results = {}
    for work, program in PROGRAMS.items():
        cases = [
            paired_runs.Case(f"{work}, {size}", ["--size", size, "--threads", "1"])
            for size in SIZES
        ]
        earlier = [sys.executable, f"{before}/benchmarks/{program}"]
        programs = {
            "tfkd": [sys.executable, program],
            "before": ["env", f"PYTHONPATH={before}", *earlier],
        }
        results |= paired_runs.measure(cases, programs, options.rounds, options.repeats)
    revision = paired_runs.revision_of(before)
    setting = {"batch": BATCH, "frames": FRAMES, "tokens": TOKENS, "vocabulary": VOCABULARY}
    paired_runs.write(options.out, results, {**setting, "before": revision}, None)
    print(paired_runs.table(results, baselines=["before"]))


if __name__ == "__main__":
    main()
