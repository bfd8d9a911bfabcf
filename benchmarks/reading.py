"""Reads long recordings with this checkout and with an earlier one, taking turns.

    git worktree add ../before REVISION
    python benchmarks/reading.py ../before

Both run in this environment. The recordings are noise of two channels at 44.1 kHz.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import paired_runs
import soundfile
from reading_tfkd import PIECE_SECONDS

RATE_HZ, MINUTES = 44100, 20


def write(path: Path) -> None:
    """Writes noise of two channels that are alike."""
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2) as file:
        for _ in range(MINUTES):
            noise = generator.normal(0, 0.05, (60 * RATE_HZ, 1)).astype(np.float32)
            file.write(np.concatenate([noise, 0.8 * noise], axis=1))


def main() -> None:
    options = paired_runs.options_beside(
        __doc__.splitlines()[0], rounds=1, repeats=3, out="reading.json"
    )
    before = options.before.resolve()
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for form, work in (("flac", "whole"), ("mp3", "pieces")):
            recordings = Path(folder) / form
            recordings.mkdir()
            write(recordings / f"talk.{form}")
            name = f"{form.upper()}, {work}"
            cases.append(paired_runs.Case(name, ["--work", work, "--folder", str(recordings)]))
        program = [sys.executable, "reading_tfkd.py"]
        programs = {"tfkd": program, "before": ["env", f"PYTHONPATH={before}", *program]}
        results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    setting = {"minutes": MINUTES, "rate_hz": RATE_HZ, "piece_seconds": PIECE_SECONDS}
    setting["before"] = paired_runs.revision_of(before)
    paired_runs.write(options.out, results, setting, None)
    print(paired_runs.table(results, baselines=["before"]))


if __name__ == "__main__":
    main()
