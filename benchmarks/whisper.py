"""Times Whisper's beam search in tfkd and in CTranslate2 (float32), taking turns.

    python benchmarks/whisper.py --data FOLDER --model tiny.en=FOLDER --model base=FOLDER

Both find hypotheses of the same real clips with width 5, alone and in batches; the folders are as
CTranslate2 converts them. tfkd computes its features, which CTranslate2 gets for nothing. tfkd
returns the exact five best; CTranslate2, asked for five, stops as soon as it has any five, and,
asked for one, once the best is found: the latter is timed too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import paired_runs

from tfkd.audio.reading import read_audio

WIDTH = 5
RATE_HZ = 16000


def clips(data: Path, count: int) -> list[np.ndarray]:
    """Waveforms of `count` clips of each corpus, spread over its manifest."""
    paths: list[Path] = []
    for corpus in ("digits", "barista"):
        lines = (data / corpus / "valid.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[:: len(lines) // count][:count]]
        paths += [data / corpus / row["audio"] for row in rows]
    kaldi = data / "speechocean762" / "dev"
    lines = (kaldi / "wav.scp").read_text().splitlines()
    paths += [kaldi / line.split()[1] for line in lines[:: len(lines) // count][:count]]
    return [read_audio(path, sample_rate_hz=RATE_HZ) for path in paths]


def best_of(results: dict[str, dict[str, dict]], models: list[str], num_clips: int) -> dict:
    """CPU seconds a clip of each program with the batch size that suits it best."""
    found = {}
    for model in models:
        own = {case: rows for case, rows in results.items() if case.startswith(f"{model},")}
        seconds = {
            program: min(rows[program]["median_cpu_seconds"] for rows in own.values()) / num_clips
            for program in next(iter(own.values()))
        }
        ratios = {name: seconds["tfkd"] / value for name, value in seconds.items()}
        found[model] = {"cpu_seconds_a_clip": seconds, "tfkd_relative_to": ratios}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="digits, barista, speechocean762")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--clips", type=int, default=4, help="of each corpus")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=3, help="runs in each process")
    parser.add_argument("--out", default="benchmarks/results/whisper.json")
    options = parser.parse_args()
    models = dict(model.split("=", 1) for model in options.model)
    waveforms = clips(options.data, options.clips)
    programs = {
        "tfkd": [sys.executable, "whisper_tfkd.py"],
        "ctranslate2": [sys.executable, "whisper_ctranslate2.py", "--hypotheses", str(WIDTH)],
        "ctranslate2, one": [sys.executable, "whisper_ctranslate2.py", "--hypotheses", "1"],
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clips.npz"
        np.savez(path, *waveforms)
        cases = [
            paired_runs.Case(
                f"{name}, batch {batch}",
                ["--folder", folder, "--threads", str(options.threads), "--clips", str(path),
                 "--batch", str(batch)],
            )
            for name, folder in models.items()
            for batch in options.batches
        ]  # fmt: skip
        results = paired_runs.measure(cases, programs, options.rounds, options.repeats)
    seconds = [len(waveform) / RATE_HZ for waveform in waveforms]
    setting = {"clips": len(waveforms), "median_clip_seconds": statistics.median(seconds),
               "beam_width": WIDTH, "threads": options.threads}  # fmt: skip
    setting["best"] = best_of(results, list(models), len(waveforms))
    paired_runs.write(options.out, results, setting, None)
    print(paired_runs.table(results, baselines=[name for name in programs if name != "tfkd"]))
    print(json.dumps(setting["best"], indent=1))


if __name__ == "__main__":
    main()
