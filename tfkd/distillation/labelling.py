"""Decodes every utterance of a store with a teacher and keeps its k best hypotheses.

Each shard of utterances becomes one shard of labels, so a rerun decodes only the shards that are
missing; `tfkd.records.writer` explains how a shard is written safely.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tfkd.audio.segments import LONGEST_WHOLE
from tfkd.config import LabelConfig, overrides_of, to_dict
from tfkd.corpora import Rejection
from tfkd.data.audio_batches import audio_batches, by_shard
from tfkd.data.sample_rates import check_rate
from tfkd.decoding.runs import Run
from tfkd.distillation.interface import Batch, Labeller, Teacher
from tfkd.distillation.teachers import as_teacher
from tfkd.distillation.units import UNITS, units_sha256, write_units
from tfkd.errors import ConfigError, RecordError
from tfkd.language_models import language_model_sha256
from tfkd.progress import progress_bar
from tfkd.records import (
    PSEUDO_LABELS,
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    Record,
    Store,
    StoreSummary,
    StoreWriter,
    is_finished,
    is_store,
)
from tfkd.records.shards import ordered_records, shard_ids
from tfkd.storage.markers import PLAN

# Takes the number of a shard, its records and, once these are exhausted, its rejections.
WriteShard = Callable[[int, Iterable[Record], Iterable[Rejection]], None]
# The teacher's hypotheses for each utterance of a shard, by utterance id.
Labels = dict[str, tuple[Hypothesis, ...]]

# The longest of the teacher's own corpus may be as long; what is named is more than these.
_FEW = 0.01
_LOG = logging.getLogger("tfkd")


def label(
    teacher: Teacher | Run, store: Store, out: str | Path, config: LabelConfig
) -> StoreSummary:
    """Labels every utterance of `store` with the teacher's k best hypotheses.

    Every utterance of the manifest that `store` was prepared from ends up labelled or rejected.

    Args:
      teacher: a run, or a teacher from `tfkd.distillation.teachers.load_teacher`.
      store: utterances at the teacher's sample rate.
      out: folder of the labels; shards that it holds already are verified and kept.
      config: the search, and what is kept of it.
    Returns:
      How many utterances were labelled and rejected.
    Raises:
      ConfigError: if the settings ask for a search that the teacher cannot do.
      RecordError: if `out` holds labels of another teacher, data or settings, or the utterances
        have another sample rate.

    >>> run, store = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/test")
    >>> tfkd.label(run, store, "work/labels-of-test", tfkd.config.LabelConfig()).records
    6
    """
    labeller = ShardLabeller(teacher, store, config, out)
    warn_of_long_audio(as_teacher(teacher), store)
    return label_store(labeller, out)


def is_labelled(teacher: Teacher | Run, store: Store, out: str | Path, config: LabelConfig) -> bool:
    """Whether `out` holds the finished labels that `label` would make; reads no shard of them.

    Raises:
      ConfigError, RecordError: as `label`, for example if `out` holds labels of other settings.
    """
    return is_finished(out, label_plan(teacher, store, config, out))


def label_store(labeller: ShardLabeller, out: str | Path) -> StoreSummary:
    """Labels the shards that `out` lacks, in this process; see `label`."""
    plan = labeller.plan
    with StoreWriter(out, plan) as writer:
        keep_units(labeller.teacher, plan, out)
        pending = writer.pending_shards()
        total = sum(len(plan.shards[number]) for number in pending)
        with progress_bar(total=total, desc="label", unit="utt") as bar:
            for _ in labeller.label(pending, writer.write_shard):
                bar.update()
        return writer.complete(labeller.store.rejections, labeller.store.pieces)


def warn_of_long_audio(teacher: Teacher, store: Store) -> None:
    """Logs how many utterances are longer than those that the teacher knows."""
    rate_hz, usual_seconds = teacher.sample_rate_hz, teacher.usual_seconds
    limit = LONGEST_WHOLE * usual_seconds * rate_hz
    longer = [row["utterance_id"] for row in store.index if row["num_samples"] > limit]
    if len(longer) > _FEW * len(store.index):
        _LOG.warning(
            "%s: %d of %d utterances are much longer than the %.1f s that the teacher knows, "
            "for example %s, so their labels may lack words; audio without text can be cut when "
            "it is prepared (too_long: split, piece_seconds: %.1f)",
            store.name,
            len(longer),
            len(store.index),
            usual_seconds,
            longer[0],
            usual_seconds,
        )


def label_plan(
    teacher: Teacher | Run, store: Store, config: LabelConfig, out: str | Path | None = None
) -> Plan:
    """Plans a store of labels whose shards hold the same utterances as those of `store`.

    Args:
      out: folder of the labels. Those that it holds may have been decoded in other batches, as
        where a first command ran out of memory; no other plan results from that.
    Raises:
      ConfigError: if the settings ask for a search that the teacher cannot do.
      RecordError: if the utterances have another sample rate than the teacher's.
    """
    teacher = as_teacher(teacher)
    check_rate(store, teacher.sample_rate_hz)
    digest = digest_of(teacher, replace(config, batch_size=_batch_size_of(out, config)))
    sources = {"teacher": teacher.identity, "utterances": store.sha256}
    if config.fusion.lm:
        sources["language_model"] = language_model_sha256(config.fusion.lm)
    if config.top_m and teacher.tokenizer is not None:
        sources[UNITS] = units_sha256(teacher.tokenizer)
    return Plan(
        kind=PSEUDO_LABELS,
        digest=digest,
        sources=sources,
        shards=tuple(map(shard_ids, store.shard_paths)),
        settings=tuple(overrides_of(to_dict(config))),
    )


def _batch_size_of(out: str | Path | None, config: LabelConfig) -> int:
    """The batch size that the digest of the labels in a folder is of; else that of the config."""
    if out is not None and is_store(out):
        with contextlib.suppress(RecordError):  # Who writes there says what is wrong.
            settings = dict(each.split("=", 1) for each in Plan.read(Path(out) / PLAN).settings)
            return int(settings.get("batch_size", config.batch_size))
    return config.batch_size


def digest_of(teacher: Teacher, config: LabelConfig) -> str:
    """The sha256 of all settings that a teacher's labels depend on.

    Raises:
      ConfigError: if the settings ask for what the teacher cannot do.
    """
    if config.top_m and teacher.tokenizer is None:
        raise ConfigError(
            f"labels.top_m: {teacher.spec} gives no posteriors", remedy="set labels.top_m to 0"
        )
    return teacher.digest(config)


def keep_units(teacher: Teacher | Run, plan: Plan, out: str | Path) -> None:
    """Writes the teacher's tokenizer beside labels with posteriors: students need its token ids."""
    tokenizer = as_teacher(teacher).tokenizer
    if UNITS in plan.sources and tokenizer is not None:
        write_units(tokenizer, out)


class ShardLabeller:
    """Labels shards of one store with one teacher; a process creates one and reuses it.

    Args:
      out: see `label_plan`.
    The content of a shard depends on the plan alone, whichever process labels it and in whatever
    order.
    """

    def __init__(
        self,
        teacher: Teacher | Run,
        store: Store,
        config: LabelConfig,
        out: str | Path | None = None,
    ) -> None:
        self.teacher, self.store = teacher, store
        self.plan = label_plan(teacher, store, config, out)
        self._batch_size = config.batch_size
        self._labeller = as_teacher(teacher).labeller(config)

    def label(self, numbers: Sequence[int], write: WriteShard) -> Iterator[str]:
        """Labels shards one after another; yields the id of each utterance once it is decoded.

        While the search runs, other threads read the next batches and write the previous shard. All
        shards are written once the iterator is exhausted.

        Args:
          numbers: of the shards.
          write: called once for each shard, in order, in another thread.
        Raises:
          RecordError: if `write` raises it; the search stops after its current batch.
        """
        batches = audio_batches(self.store, self._batch_size, shards=numbers)
        with _BackgroundCalls() as writing:
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


class _BackgroundCalls:
    """Runs calls one after another in another thread; a new call waits for the one before."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last: Future | None = None

    def __enter__(self) -> _BackgroundCalls:
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
        """Starts a call, or raises the error of the one before."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(function, *arguments)

    def check(self) -> None:
        """Raises the error of a call that has ended."""
        if self._last is not None and self._last.done():
            self._last.result()


def _records(
    store: Store, path: Path, labels: Labels, refused: list[Rejection]
) -> Iterator[PseudoLabelRecord]:
    """Yields the labels of a shard in order; adds utterances without hypotheses to `refused`."""
    for record in ordered_records(path, store.kind, shard_ids(path)):
        utterance = record.utterance
        hypotheses = labels[utterance.utterance_id]
        if hypotheses:
            yield PseudoLabelRecord(utterance, hypotheses)
        else:
            detail = (
                "the search found no text: the audio is silent or below 50 ms, no token is "
                "possible, or a Whisper names speech without its words"
            )
            refused.append(Rejection(utterance.utterance_id, "no_hypothesis", detail, str(path)))
