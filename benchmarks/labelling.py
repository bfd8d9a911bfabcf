"""Compares the speed of `tfkd label` with that of the search alone.

    python benchmarks/labelling.py --teacher large --json labelling_large.json
    python benchmarks/labelling.py --data digits/train.jsonl --json labelling.json

Both sides decode the same batches with the same teacher of random weights. `digits` has the size of
the teacher in configs/digits.yaml and spells eight tokens an utterance, the least work that a
search can be; `large` has the size of the teacher in sizes.py and spells ten characters a second,
as speech has. `bare` has every batch in memory and only searches; `label` is the whole command but
for loading: it reads shards, decodes audio, searches, writes, reads back and completes a new store.
The two take turns, so that other work on the machine hits both alike, and the median of the ratios
of each pair counts. A first pair warms up and is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sizes import FRAMES, SIZES, TOKENS
from synthetic_stores import noise_store, random_teacher, surroundings

from tfkd.config import (
    AttentionConfig,
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    ModelConfig,
    PrepareConfig,
    SystemConfig,
    load_run_config,
)
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.distillation.labelling import ShardLabeller, label_store
from tfkd.malloc import share_one_heap
from tfkd.records import Store, open_store
from tfkd.storage.files import write_json

CONFIG = Path(__file__).parent.parent / "configs" / "digits.yaml"
# The longest digit strings of the recipe are seven words and an end.
DIGIT_TOKENS = 8
NOISE_SECONDS = {"digits": (0.3, 4.0), "large": (2.0, 12.0)}
# Several shards even of few utterances: the last shard of all cannot be written during a search.
NOISE_SHARD_SIZE = 64
HOURS = 10_000


def main() -> None:
    share_one_heap()  # as tfkd's commands do
    options = _options()
    config = load_run_config(CONFIG)
    system = _teacher(options.teacher, config.teacher)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        store = _store(options, work / "data", config.prepare)
        run = random_teacher(system, work / "teacher", options.seed)
        labeller = ShardLabeller(run, store, config.labels)
        batches = list(audio_batches(store, config.labels.batch_size))

        def bare() -> None:
            for batch in batches:
                labeller.decoder.decode(batch["waveform"], batch["num_samples"])

        def label() -> None:
            with tempfile.TemporaryDirectory(dir=work) as out:
                label_store(labeller, out)

        pairs = _take_turns({"bare": bare, "label": label}, options.pairs)
        result = {
            "command": f"python benchmarks/labelling.py --teacher {options.teacher}",
            "data": {
                "kind": "real" if options.data else "noise",
                "utterances": store.summary.records,
                "audio_seconds": round(store.summary.duration_seconds, 1),
                "shards": store.summary.num_shards,
                "batches": len(batches),
            },
            "teacher": {
                "size": options.teacher,
                "parameters": run.model.count_params(),
                "max_tokens": system.decoding.max_tokens,
                "max_tokens_per_second": system.decoding.max_tokens_per_second,
                "beam_width": config.labels.beam_width,
                "num_hypotheses": config.labels.num_hypotheses,
                "batch_size": config.labels.batch_size,
            },
            **_summary(pairs, store),
            "pairs": pairs,
            "seed": options.seed,
            **surroundings(),
        }
    for name in ("utterances_per_second", "label_over_bare", "hours_of_10000_hours_of_audio"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_json(options.json, result)


def _teacher(size: str, digits: SystemConfig) -> SystemConfig:
    if size == "digits":
        decoding = dataclasses.replace(digits.decoding, max_tokens=DIGIT_TOKENS)
        return dataclasses.replace(digits, decoding=decoding)
    sizes = SIZES["teacher"]
    model = ModelConfig(
        encoder=EncoderConfig("pyramid", 8, layers=len(sizes.joins), units=sizes.units),
        attention=AttentionConfig("additive", sizes.attention_units),
        decoder=DecoderConfig(units=sizes.decoder_units, embedding_units=sizes.embedding_units),
    )
    per_second = TOKENS / (FRAMES * model.frontend.hop_ms / 1000)
    most = round(per_second * NOISE_SECONDS["large"][1])
    decoding = DecodingConfig(max_tokens=most, max_tokens_per_second=per_second)
    return dataclasses.replace(digits, model=model, decoding=decoding)


def _take_turns(sides: dict[str, Callable[[], None]], pairs: int) -> list[dict[str, Any]]:
    """Wall and CPU seconds of each side, pair by pair; who begins alternates."""
    for side in sides.values():
        side()
    rows = []
    for number in range(pairs):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        row = {name: _timed(sides[name]) for name in order}
        rows.append({name: row[name] for name in sides})
    return rows


def _timed(work: Callable[[], None]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "wall_seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }


def _summary(pairs: list[dict[str, Any]], store: Store) -> dict[str, Any]:
    def median(side: str, clock: str) -> float:
        return statistics.median(pair[side][clock] for pair in pairs)

    def ratio(clock: str) -> float:
        ratios = [pair["bare"][clock] / pair["label"][clock] for pair in pairs]
        return round(statistics.median(ratios), 3)

    scale = HOURS * 3600 / store.summary.duration_seconds / 3600
    return {
        "utterances_per_second": {
            side: round(store.summary.records / median(side, "wall_seconds"), 1)
            for side in ("bare", "label")
        },
        "label_over_bare": {"wall": ratio("wall_seconds"), "cpu": ratio("cpu_seconds")},
        "hours_of_10000_hours_of_audio": {
            "wall": round(scale * median("label", "wall_seconds"), 1),
            "cpu": round(scale * median("label", "cpu_seconds"), 1),
        },
    }


def _store(options: argparse.Namespace, directory: Path, config: PrepareConfig) -> Store:
    if options.data:
        prepare(options.data, directory, config)
        return open_store(directory)
    return noise_store(
        directory,
        utterances=options.utterances,
        seconds=NOISE_SECONDS[options.teacher],
        sample_rate_hz=config.sample_rate_hz,
        shard_size=NOISE_SHARD_SIZE,
        seed=options.seed,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="corpus of real speech, as for tfkd prepare")
    parser.add_argument("--teacher", choices=list(NOISE_SECONDS), default="digits")
    parser.add_argument("--utterances", type=int, default=2200, help="of noise, without --data")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
