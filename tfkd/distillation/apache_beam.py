"""Labelling on many machines: an Apache Beam pipeline whose elements are numbers of shards.

The driver plans, holds the lock and writes the completion marker, as `labelling.label` does.
The workers run the same `ShardLabeller` and put verified shards into the same folder, so every
machine must see the run, the utterances and the labels under the same paths. A bundle that Beam
repeats finds its shard there, or writes it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from tfkd.config import LabelConfig
from tfkd.decoding.runs import Run
from tfkd.distillation.interface import Teacher
from tfkd.distillation.labelling import ShardLabeller, keep_units, label_plan
from tfkd.distillation.teachers import as_teacher, load_teacher
from tfkd.errors import ClusterError, ConfigError, TfkdError
from tfkd.records import Plan, Store, StoreSummary, StoreWriter, is_written, open_store, write_shard
from tfkd.records.store import PLAN

RUNNERS = {
    # Beam's own `DirectRunner` first looks for a Go program on the internet.
    "direct": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}


def label_with_beam(
    teacher: Teacher | Run,
    store: Store,
    out: str | Path,
    config: LabelConfig,
    *,
    runner: str,
    options: Sequence[str] = (),
) -> StoreSummary:
    """Labels as `tfkd.distillation.labelling.label` does, with the workers of a Beam runner.

    Args:
      runner: one of RUNNERS.
      options: of the runner, as on its command line: "--flink_master=host:8081".
    Raises:
      RecordError: if `out` holds labels of another teacher, data or settings.
      ClusterError: if the runner fails; what was written is kept.
    """
    teacher = as_teacher(teacher)
    plan = label_plan(teacher, store, config)
    with StoreWriter(out, plan) as writer:
        keep_units(teacher, plan, out)
        pending = writer.pending_shards()
        if pending:
            writer.reopen()
            task = LabelShard(teacher.spec, str(store.directory), str(out), config)
            _run_pipeline(pending, task, [f"--runner={RUNNERS[runner]}", *options])
        return writer.complete(store.rejections, store.pieces)


def _run_pipeline(pending: Sequence[int], task: LabelShard, options: Sequence[str]) -> None:
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            # Without the reshuffle a runner would give all numbers to the worker that made them.
            numbers = pipeline | "Pending" >> beam.Create(pending) | beam.Reshuffle()
            numbers | "Label" >> beam.ParDo(task)
    except SystemExit as error:  # Beam has told what is wrong, as a program that reads its options.
        raise ConfigError("the runner refuses a --runner-option") from error
    except Exception as error:  # Each runner has exceptions of its own.
        said = str(error).strip().splitlines()
        raise ClusterError(
            f"the runner failed: {said[-1] if said else type(error).__name__}",
            remedy="the same command goes on with the shards that are missing",
        ) from error


class LabelShard(beam.DoFn):
    """Labels the shards whose numbers it is given, and writes them into the store of labels."""

    def __init__(self, teacher: str, store: str, out: str, config: LabelConfig) -> None:
        self._teacher, self._store, self._out, self._config = teacher, store, out, config
        # One teacher a process, however many threads a runner gives it.
        self._shared = Shared()
        self._utterances = Metrics.counter(self.__class__, "utterances")

    def setup(self) -> None:
        """Loads the teacher, and refuses one that is not the driver's."""
        with _in_full():
            self._labeller = self._shared.acquire(self._load)

    def process(self, number: int) -> None:
        """Labels one shard, unless an earlier attempt has."""
        plan = self._labeller.plan
        if is_written(self._out, plan, number):
            return
        with _in_full():
            for _ in self._labeller.label([number], partial(write_shard, self._out, plan)):
                self._utterances.inc()

    def _load(self) -> ShardLabeller:
        teacher, store = load_teacher(self._teacher), open_store(self._store)
        labeller = ShardLabeller(teacher, store, self._config)
        path = Path(self._out) / PLAN
        labeller.plan.check_same(Plan.read(path), path)
        return labeller


@contextlib.contextmanager
def _in_full() -> Iterator[None]:
    """Beam passes on the first argument of an error alone, so that must tell the place as well."""
    try:
        yield
    except TfkdError as error:
        raise ClusterError(str(error)) from error
