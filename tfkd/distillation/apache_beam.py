"""Labels on many machines, with an Apache Beam pipeline over the numbers of the shards.

The driver plans the store, holds its lock and writes the completion marker, as `labelling.label`
does. The workers run the same `ShardLabeller` and write verified shards into the same folder, so
every machine must see the teacher, the utterances and the labels under the same paths. When Beam
retries a bundle, a shard that the first attempt has finished is skipped.
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
from tfkd.distillation.labelling import (
    ShardLabeller,
    keep_units,
    label_plan,
    warn_of_long_audio,
)
from tfkd.distillation.teachers import as_teacher, load_teacher
from tfkd.errors import ClusterError, ConfigError, TfkdError
from tfkd.records import Plan, Store, StoreSummary, StoreWriter, is_written, open_store, write_shard
from tfkd.storage.markers import PLAN

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
      teacher: a teacher or a run that every worker can load from the same path.
      store: utterances.
      out: folder of the labels; shards that it holds already are verified and kept.
      runner: a key of RUNNERS.
      options: the runner's own options, written as on its command line, for example
        "--flink_master=host:8081".
    Returns:
      How many utterances were labelled and rejected.
    Raises:
      ConfigError: if Beam refuses an option.
      RecordError: if `out` holds labels of another teacher, data or settings.
      ClusterError: if the runner fails; the shards that are finished are kept.
    """
    teacher = as_teacher(teacher)
    plan = label_plan(teacher, store, config, out)
    warn_of_long_audio(teacher, store)
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
            # Reshuffle spreads the numbers; without it a runner gives them all to one worker.
            numbers = pipeline | "Pending" >> beam.Create(pending) | beam.Reshuffle()
            numbers | "Label" >> beam.ParDo(task)
    except SystemExit as error:  # Beam reads options with argparse, which prints the reason.
        raise ConfigError(
            "the runner refuses a --runner-option", remedy="its message above names the option"
        ) from error
    except Exception as error:  # Runners share no base class of exceptions.
        lines = str(error).strip().splitlines()
        raise ClusterError(
            f"the runner failed: {lines[-1] if lines else type(error).__name__}",
            remedy="run the same command again: it labels the shards that are missing",
        ) from error


class LabelShard(beam.DoFn):
    """Labels the shards with the given numbers and writes them into the store of labels."""

    def __init__(self, teacher: str, store: str, out: str, config: LabelConfig) -> None:
        self._teacher, self._store, self._out, self._config = teacher, store, out, config
        # The threads of a process share one teacher.
        self._shared = Shared()
        self._utterances = Metrics.counter(self.__class__, "utterances")

    def setup(self) -> None:
        """Loads the teacher and checks that it is the one that the driver planned with."""
        with _whole_message():
            self._labeller = self._shared.acquire(self._load)

    def process(self, number: int) -> None:
        """Labels one shard, unless an earlier attempt has finished it."""
        plan = self._labeller.plan
        if is_written(self._out, plan, number):
            return
        with _whole_message():
            for _ in self._labeller.label([number], partial(write_shard, self._out, plan)):
                self._utterances.inc()

    def _load(self) -> ShardLabeller:
        teacher, store = load_teacher(self._teacher), open_store(self._store)
        labeller = ShardLabeller(teacher, store, self._config, self._out)
        path = Path(self._out) / PLAN
        labeller.plan.check_same(Plan.read(path), path)
        return labeller


@contextlib.contextmanager
def _whole_message() -> Iterator[None]:
    """Puts file and remedy into the message: Beam forwards only the first argument of an error."""
    try:
        yield
    except TfkdError as error:
        raise ClusterError(str(error)) from error
