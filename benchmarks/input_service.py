"""Measures a trainer's cost of augmented batches that it makes itself or that workers make.

    python benchmarks/input_service.py CORPUS --out benchmarks/results/input_service.json

CORPUS is a prepared folder or a manifest with transcripts. Nothing is trained: the batches of the
recipe's student are read as fast as they come, two epochs of them, of which the first decodes and
the second finds decoded audio in memory. All processes share the cores that this one may use.

- `utterances_a_second`: of the wall clock, so it depends on the cores that are free.
- `trainer_cpu_ms`, `workers_cpu_ms`: CPU time for an utterance, of the trainer and of all workers.
- `parts`: CPU time for an utterance of decoding it with libsndfile, and of reading it in graph with
  tensorflow-io, where its kernels run. What is left of an epoch is augmentation.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from synthetic_stores import surroundings

from tfkd.audio.flac import decode_flac
from tfkd.config import PrepareConfig, SystemConfig, load_system_config
from tfkd.data.graph_reader import read_store_in_graph
from tfkd.data.preparation import prepare
from tfkd.records import Store, open_store
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json
from tfkd.storage.scratch import scratch_folder
from tfkd.text import train_tokenizer
from tfkd.training.batches import TrainingEpochs

CONFIG = Path(__file__).parent.parent / "configs" / "digits.yaml"
# All that may be heard is heard each time.
HEAVY = (
    "training.augmentation={noise: {share: 1.0}, reverberation: {share: 1.0}}",
    "training.objective.kind=truth",
)
EPOCHS = 2
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = _options()
    system = load_system_config(CONFIG, "student", HEAVY)
    with scratch_folder() as scratch:
        store = _store_of(options.corpus, system, scratch / "store")
        parts = dict(_parts(store))
        rows = [{"workers": 0, **_epochs(store, system, None, [])}]
        for count in options.workers:
            with _workers(store, count) as (url, processes):
                rows.append({"workers": count, **_epochs(store, system, url, processes)})
        summary = store.summary
    if options.out:
        write_json(options.out, {
            **surroundings(),
            "cores": len(os.sched_getaffinity(0)),
            "utterances": summary.records,
            "audio_hours": round(summary.duration_seconds / 3600, 3),
            "augmentation": HEAVY[0],
            "parts": parts,
            "results": rows,
        })  # fmt: skip
    print(table(["CPU ms an utterance", ""], [[k, f"{v:.2f}"] for k, v in parts.items()]))
    print(table(
        ["workers", "epoch", "utterances/s", "trainer CPU ms", "workers CPU ms"],
        [[str(row["workers"]), str(n), f"{e['utterances_a_second']:.0f}",
          f"{e['trainer_cpu_ms']:.2f}", f"{e['workers_cpu_ms']:.2f}"]
         for row in rows for n, e in enumerate(row["epochs"])],
    ))  # fmt: skip


def _store_of(corpus: str, system: SystemConfig, out: Path) -> Store:
    if (Path(corpus) / "complete.json").exists():
        return open_store(corpus)
    prepare(corpus, out, PrepareConfig(sample_rate_hz=system.model.frontend.sample_rate_hz))
    return open_store(out)


def _parts(store: Store) -> Iterator[tuple[str, float]]:
    audio = [record.utterance.audio for record in store.records()]
    yield "decoding_cpu_ms", _cpu_ms(decode_flac(each) for each in audio)
    with contextlib.suppress(RuntimeError):  # It says what it needs; other figures do not need it.
        dataset = read_store_in_graph(store.directory)
        yield "graph_reader_cpu_ms", _cpu_ms(dataset)


def _cpu_ms(items: Iterable) -> float:
    """CPU milliseconds of each item."""
    begin, count = time.process_time(), sum(1 for _ in items)
    return round(1000 * (time.process_time() - begin) / count, 3)


def _epochs(
    store: Store, system: SystemConfig, url: str | None, workers: list[subprocess.Popen]
) -> dict:
    training = dataclasses.replace(system.training, input_service=url)
    tokenizer = train_tokenizer([row["text"] for row in store.index], system.tokenizer)
    epochs = TrainingEpochs(store, tokenizer, training)
    return {"epochs": [_read(epochs, epoch, workers) for epoch in range(EPOCHS)]}


def _read(epochs: TrainingEpochs, epoch: int, workers: list[subprocess.Popen]) -> dict:
    wall, cpu, theirs = time.perf_counter(), time.process_time(), _cpu_seconds(workers)
    count = sum(len(batch["num_samples"]) for batch in epochs.batches(epoch))
    return {
        "utterances": count,
        "utterances_a_second": round(count / (time.perf_counter() - wall), 1),
        "trainer_cpu_ms": round(1000 * (time.process_time() - cpu) / count, 3),
        "workers_cpu_ms": round(1000 * (_cpu_seconds(workers) - theirs) / count, 3),
    }


def _cpu_seconds(processes: list[subprocess.Popen]) -> float:
    """CPU time of other processes until now."""
    ticks = 0
    for process in processes:
        # Behind the name, which may hold anything, utime and stime are the 12th and 13th field.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


@contextlib.contextmanager
def _workers(store: Store, count: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    command = [sys.executable, "-m", "tfkd", "serve-input", "--data", str(store.directory),
               "--listen", "localhost:0"]  # fmt: skip
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        said = [process.stdout.readline() for process in processes]
        addresses = [line.partition(" at ")[2].partition(",")[0] for line in said]
        yield "grpc://" + ",".join(addresses), processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="prepared folder or manifest")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
