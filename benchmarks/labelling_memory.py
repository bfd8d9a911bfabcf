"""Measures whether the memory of labelling grows with the number of utterances.

    python benchmarks/labelling_memory.py --json labelling_memory.json

A tiny teacher labels many short utterances of noise while the resident memory of the process is
read every so many utterances. `growth_mb` is the slope of a line through the second half, over as
many utterances as were labelled in all: what would still be growing after the warm-up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from synthetic_stores import noise_store, random_teacher, surroundings

from tfkd.config import LabelConfig, SystemConfig, from_dict
from tfkd.distillation.labelling import ShardLabeller
from tfkd.malloc import share_one_heap
from tfkd.records import StoreWriter
from tfkd.storage.files import write_json

SECONDS = (0.2, 0.4)
SHARD_SIZE = 512
SYSTEM = {
    "model": {
        "encoder": {"layers": 1, "units": 16, "conv_units": 16},
        "attention": {"units": 16},
        "decoder": {"units": 16, "embedding_units": 8},
    },
    "decoding": {"max_tokens": 4},
}
LABELS = LabelConfig(beam_width=2, num_hypotheses=2, batch_size=32)


def main() -> None:
    share_one_heap()  # as tfkd's commands do
    options = _options()
    system = from_dict(SystemConfig, SYSTEM)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        store = noise_store(
            work / "data",
            utterances=options.utterances,
            seconds=SECONDS,
            sample_rate_hz=system.model.frontend.sample_rate_hz,
            shard_size=SHARD_SIZE,
            seed=options.seed,
        )
        run = random_teacher(system, work / "teacher", options.seed)
        labeller = ShardLabeller(run, store, LABELS)
        every = max(options.utterances // 50, 1)
        labelled, rss_mb = [0], [_rss_mb()]
        with StoreWriter(work / "labels", labeller.plan) as writer:
            ids = labeller.label(writer.pending_shards(), writer.write_shard)
            for number, _ in enumerate(ids, 1):
                if number % every == 0:
                    labelled.append(number)
                    rss_mb.append(_rss_mb())
            writer.complete()
        half = len(labelled) // 2
        slope = np.polyfit(labelled[half:], rss_mb[half:], 1)[0]
        result = {
            "command": "python benchmarks/labelling_memory.py",
            "utterances": store.summary.records,
            "audio_seconds": round(store.summary.duration_seconds, 1),
            "growth_mb": round(float(slope) * options.utterances, 1),
            "rss_mb_after_completion": _rss_mb(),
            "labelled": labelled,
            "rss_mb": rss_mb,
            "seed": options.seed,
            **surroundings(),
        }
    for name in ("utterances", "rss_mb", "growth_mb", "rss_mb_after_completion"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_json(options.json, result)


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
