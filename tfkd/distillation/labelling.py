"""Pseudo labels: the teacher's k best for every utterance, decoded once.

A shard of labels answers a shard of utterances, so a rerun decodes only the shards that are not
there yet; see `tfkd.records.writer` for what makes a shard safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from tfkd.config import LabelConfig
from tfkd.corpora import Rejection
from tfkd.data.audio_batches import audio_batches, by_shard
from tfkd.decoding.runs import Run
from tfkd.distillation.interface import Batch, Labeller, Teacher
from tfkd.distillation.teachers import as_teacher
from tfkd.distillation.units import UNITS, units_sha256, write_units
from tfkd.errors import ConfigError
from tfkd.language_models import language_model_sha256
from tfkd.records import (
    PSEUDO_LABELS,
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    Record,
    Store,
    StoreSummary,
    StoreWriter,
)
from tfkd.records.shards import ordered_records, shard_ids

# Takes the number of a shard, its records and, once these are exhausted, its rejections.
WriteShard = Callable[[int, Iterable[Record], Iterable[Rejection]], None]
# What the teacher says of each utterance of a shard, by id.
Labels = dict[str, tuple[Hypothesis, ...]]


def label(
    teacher: Teacher | Run, store: Store, out: str | Path, config: LabelConfig
) -> StoreSummary:
    """Labels every utterance of `store` with the teacher's k best, into a store of pseudo labels.

    Labelled and rejected utterances together are those of the manifest that `store` came from.

    Args:
      teacher: a run, or what `tfkd.distillation.teachers.load_teacher` reads.
      out: folder of the labels; what it holds already is verified and kept.
    Raises:
      ConfigError: if the settings ask for a search that the teacher cannot do.
      RecordError: if `out` holds labels of another teacher, data or settings.

    >>> run, store = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/test")
    >>> tfkd.label(run, store, "work/labels-of-test", tfkd.config.LabelConfig()).records
    6
    """
    return label_store(ShardLabeller(teacher, store, config), out)


def label_store(labeller: ShardLabeller, out: str | Path) -> StoreSummary:
    """Labels in this process what `out` does not hold yet; see `label`."""
    plan = labeller.plan
    with StoreWriter(out, plan) as writer:
        keep_units(labeller.teacher, plan, out)
        pending = writer.pending_shards()
        total = sum(len(plan.shards[number]) for number in pending)
        with tqdm(total=total, desc="label", unit="utt", disable=None) as bar:
            for _ in labeller.label(pending, writer.write_shard):
                bar.update()
        return writer.complete(labeller.store.rejections, labeller.store.pieces)


def label_plan(teacher: Teacher | Run, store: Store, config: LabelConfig) -> Plan:
    """Plans a store of the teacher's labels: shard by shard, the utterances of `store`.

    Raises:
      ConfigError: if the settings ask for a search that the teacher cannot do.
    """
    teacher = as_teacher(teacher)
    digest = teacher.digest(config)
    sources = {"teacher": teacher.identity, "utterances": store.sha256}
    if config.fusion.lm:
        sources["language_model"] = language_model_sha256(config.fusion.lm)
    if config.top_m:
        if teacher.tokenizer is None:
            raise ConfigError(f"labels.top_m: {teacher.spec} gives no posteriors, so it must be 0")
        sources[UNITS] = units_sha256(teacher.tokenizer)
    return Plan(
        kind=PSEUDO_LABELS,
        digest=digest,
        sources=sources,
        shards=tuple(map(shard_ids, store.shard_paths)),
    )


def keep_units(teacher: Teacher | Run, plan: Plan, out: str | Path) -> None:
    """Writes the teacher's tokenizer beside labels whose tokens a student is to take."""
    tokenizer = as_teacher(teacher).tokenizer
    if UNITS in plan.sources and tokenizer is not None:
        write_units(tokenizer, out)


class ShardLabeller:
    """Labels shards of one store with one teacher; a process makes it once.

    What a shard of labels holds depends on the plan alone: neither on the process that makes it nor
    on the shards that were made before.
    """

    def __init__(self, teacher: Teacher | Run, store: Store, config: LabelConfig) -> None:
        self.teacher, self.store = teacher, store
        self.plan = label_plan(teacher, store, config)
        self._batch_size = config.batch_size
        self._labeller = as_teacher(teacher).labeller(config)

    def label(self, numbers: Sequence[int], write: WriteShard) -> Iterator[str]:
        """Labels shards one after another; yields the id of each utterance once it is decoded.

        The search need not wait: meanwhile the next batches are read and decoded, and the shard
        before is written. When the last id was taken and the iterator ends, all are written.

        Args:
          write: is called once for each shard, in order, in another thread.
        Raises:
          RecordError: what `write` raised, as soon as the search has ended the batch it is at.
        """
        batches = audio_batches(self.store, self._batch_size, shards=numbers)
        with _OneBehind() as writing:
            for number, own_batches in by_shard(numbers, batches):
                labels: Labels = {}
                for utterance_id, hypotheses in label_batches(self._labeller, own_batches):
                    writing.check()
                    labels[utterance_id] = hypotheses
                    yield utterance_id
                writing.call(self._write, write, number, labels)

    def _write(self, write: WriteShard, number: int, labels: Labels) -> None:
        refused: list[Rejection] = []
        path = self.store.shard_paths[number]
        write(number, _records(self.store, path, labels, refused), refused)


def label_batches(
    labeller: Labeller, batches: Iterable[Batch]
) -> Iterator[tuple[str, tuple[Hypothesis, ...]]]:
    """Labels batches of `audio_batches`; yields the id and the hypotheses of each utterance."""
    for batch in batches:
        ids = [utterance_id.decode() for utterance_id in batch["utterance_id"].numpy()]
        yield from zip(ids, labeller(batch), strict=True)


class _OneBehind:
    """Runs calls in one other thread, one at a time: a second call waits until the first ended."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last: Future | None = None

    def __enter__(self) -> _OneBehind:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.check()

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Starts a call; first raises what the one before raised."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(function, *arguments)

    def check(self) -> None:
        """Raises what a call that has ended raised."""
        if self._last is not None and self._last.done():
            self._last.result()


def _records(
    store: Store, path: Path, labels: Labels, refused: list[Rejection]
) -> Iterator[PseudoLabelRecord]:
    """The shard's utterances in order, each with its hypotheses, or refused by name."""
    for record in ordered_records(path, store.kind, shard_ids(path)):
        utterance = record.utterance
        hypotheses = labels[utterance.utterance_id]
        if hypotheses:
            yield PseudoLabelRecord(utterance, hypotheses)
        else:
            detail = "the search found no sequence of finite probability"
            refused.append(Rejection(utterance.utterance_id, "no_hypothesis", detail, str(path)))
