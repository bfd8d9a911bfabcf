"""Measures the input pipeline: is it as fast as the training step, its padding and its memory.

    python benchmarks/input_pipeline.py FOLDER --out benchmarks/results/input_pipeline.json

FOLDER holds the corpora of CASES. Each case is a process of its own, which reads the batches of
some epochs alone (`alone`), and then trains on the first ones of each with a fresh pipeline
(`training`), so that the first epoch of both decodes audio. The graph of the step is traced
beforehand. It trains students, because input has the least time where steps are short.

- `padding`: share of the samples in the batches.
- `waiting_share`: of the steps' wall time, waiting included.
- `cpu_share`: CPU seconds of reading a batch alone, over those of training on one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

CONFIGS = Path(__file__).parent.parent / "configs"


class Case(NamedTuple):
    """A corpus below FOLDER, and the config whose student learns it, with some settings changed."""

    corpus: str
    config: str
    settings: tuple[str, ...] = ("training.augmentation=null",)


CASES = {
    "digits": Case("digits/train.jsonl", "digits.yaml"),
    "digits-augmented": Case("digits/train.jsonl", "digits.yaml", ("training.augmentation={}",)),
    "barista": Case("barista/train.jsonl", "demo.yaml"),
    "speechocean762": Case("speechocean762/train", "demo.yaml"),
}


def main() -> None:
    options = _options()
    if options.case:
        print(json.dumps(_measure(CASES[options.case], options)))
        return
    from synthetic_stores import surroundings

    from tfkd.reporting.tables import table
    from tfkd.storage.files import write_json

    results = {}
    if options.only and options.out and Path(options.out).exists():
        results = json.loads(Path(options.out).read_text())["results"]
    for name in options.only or CASES:
        results[name] = _child(name, options)
        if options.out:
            write_json(options.out, {**surroundings(), "results": results})
    print(table(["case", "epoch", "padding %", "waiting %", "CPU %", "RSS MB"], _rows(results)))


def _child(name: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, options.folder, "--case", name, "--epochs",
               str(options.epochs), "--steps", str(options.steps)]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _rows(results: dict) -> list[list[str]]:
    return [
        [name, str(epoch), f"{100 * alone['padding']:.1f}",
         f"{100 * training['waiting_share']:.1f}", f"{100 * training['cpu_share']:.1f}",
         f"{training['rss_mb']:.0f}"]
        for name, case in results.items()
        for epoch, (alone, training) in enumerate(zip(case["alone"], case["training"], strict=True))
    ]  # fmt: skip


def _measure(case: Case, options: argparse.Namespace) -> dict:
    import keras

    from tfkd.config import PrepareConfig, load_system_config
    from tfkd.data.given_audio import utterance_store
    from tfkd.models.recogniser import Recogniser
    from tfkd.text import train_tokenizer
    from tfkd.training.batches import TrainingEpochs
    from tfkd.training.profiling import Profile
    from tfkd.training.trainable import compile_for

    system = load_system_config(CONFIGS / case.config, "student", case.settings)
    # What the batches hold is all that counts here, so transcripts do in the place of labels.
    objective = dataclasses.replace(system.training.objective, kind="truth")
    training = dataclasses.replace(system.training, objective=objective)
    prepare = PrepareConfig(sample_rate_hz=system.model.frontend.sample_rate_hz)
    with utterance_store(str(Path(options.folder) / case.corpus), prepare) as store:
        tokenizer = train_tokenizer([row["text"] for row in store.index], system.tokenizer)
        before_mb = _rss_mb()
        epochs = TrainingEpochs(store, tokenizer, training)
        alone = [_read(epochs, epoch) for epoch in range(options.epochs)]

        keras.utils.set_random_seed(training.seed)
        model = Recogniser(system.model, tokenizer.vocab_size)
        compile_for(model, training, epochs.total_batches)
        model.fit(Profile().watch(epochs.batches(0).take(1)), shuffle=False, verbose=0)
        epochs = TrainingEpochs(store, tokenizer, training)
        rows = [
            _train(model, epochs.batches(epoch).take(options.steps), alone[epoch])
            for epoch in range(options.epochs)
        ]
        summary = store.summary
    return {
        **case._asdict(),
        "utterances": summary.records,
        "audio_hours": round(summary.duration_seconds / 3600, 3),
        "batch_size": training.batch_size,
        "rss_mb_before": before_mb,
        "alone": alone,
        "training": rows,
    }


def _read(epochs, epoch: int) -> dict:
    """Reads the batches of one epoch, and does nothing with them."""
    wall, cpu = time.perf_counter(), time.process_time()
    samples = held = batches = 0
    first_batch_seconds = None
    for batch in epochs.batches(epoch):
        first_batch_seconds = first_batch_seconds or time.perf_counter() - wall
        samples += int(batch["num_samples"].numpy().sum())
        held += batch["waveform"].shape[0] * batch["waveform"].shape[1]
        batches += 1
    return {
        "batches": batches,
        "padding": round(1 - samples / held, 4),
        "first_batch_seconds": round(first_batch_seconds or 0, 3),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "rss_mb": _rss_mb(),
    }


def _train(model, batches, alone: dict) -> dict:
    """Trains on the first batches of an epoch."""
    from tfkd.training.profiling import INPUT, Profile

    profile = Profile()
    cpu = time.process_time()
    model.fit(profile.watch(batches), shuffle=False, verbose=0, callbacks=[profile])
    cpu_seconds = time.process_time() - cpu
    alone_cpu_seconds = alone["cpu_seconds"] / alone["batches"] * profile.steps
    return {
        "steps": profile.steps,
        "wall_seconds": round(profile.wall_seconds, 2),
        "waiting_seconds": round(profile.seconds[INPUT], 3),
        "waiting_share": round(profile.seconds[INPUT] / profile.learning_seconds, 4),
        "cpu_seconds": round(cpu_seconds, 2),
        "cpu_share": round(alone_cpu_seconds / cpu_seconds, 4),
        "rss_mb": _rss_mb(),
    }


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of the corpora")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of each epoch that are trained")
    parser.add_argument("--case", choices=CASES, help="measure this one alone, in this process")
    parser.add_argument("--only", nargs="+", choices=CASES, help="keep the figures of the others")
    parser.add_argument("--out", help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
