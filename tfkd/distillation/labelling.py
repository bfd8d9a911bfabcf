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

from tfkd.config import LabelConfig, check_labelling, config_digest
from tfkd.corpora import Rejection
from tfkd.data.audio_batches import audio_batches, by_shard
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.decoding.results import Decoded, hypotheses_of
from tfkd.decoding.runs import Run
from tfkd.language_models import language_model_sha256
from tfkd.records import (
    PSEUDO_LABELS,
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


def label(run: Run, store: Store, out: str | Path, config: LabelConfig) -> StoreSummary:
    """Decodes every utterance of `store` with the teacher `run` into a store of pseudo labels.

    Labelled and rejected utterances together are those of the manifest that `store` came from.

    Raises:
      RecordError: if `out` holds labels of another teacher, data or settings.
    """
    return label_store(ShardLabeller(run, store, config), out)


def label_store(labeller: ShardLabeller, out: str | Path) -> StoreSummary:
    """Labels in this process what `out` does not hold yet; see `label`."""
    plan = labeller.plan
    with StoreWriter(out, plan) as writer:
        pending = writer.pending_shards()
        total = sum(len(plan.shards[number]) for number in pending)
        with tqdm(total=total, desc="label", unit="utt", disable=None) as bar:
            for _ in labeller.label(pending, writer.write_shard):
                bar.update()
        return writer.complete(labeller.store.rejections, labeller.store.pieces)


def label_plan(run: Run, store: Store, config: LabelConfig) -> Plan:
    """What a store of the teacher's labels will hold: shard by shard, the utterances of `store`.

    Raises:
      ConfigError: if the settings ask for a search that the teacher cannot do.
    """
    check_labelling(config, run.system)
    sources = {"teacher": run.sha256, "utterances": store.sha256}
    if config.fusion.lm:
        sources["language_model"] = language_model_sha256(config.fusion.lm)
    return Plan(
        kind=PSEUDO_LABELS,
        # Limits of length may be the teacher's own.
        digest=config_digest(config, config.decoding(run.system.decoding)),
        sources=sources,
        shards=tuple(map(shard_ids, store.shard_paths)),
    )


class ShardLabeller:
    """Labels shards of one store with one teacher; a process makes it once.

    What a shard of labels holds depends on the plan alone: neither on the process that makes it nor
    on the shards that were made before.
    """

    def __init__(self, run: Run, store: Store, config: LabelConfig) -> None:
        self.store = store
        self.plan = label_plan(run, store, config)
        self._batch_size = config.batch_size
        self.decoder = Decoder(run.model, run.tokenizer, config.decoding(run.system.decoding))

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
                labels = {}
                for decoded in decode_dataset(self.decoder, own_batches):
                    writing.check()
                    labels[decoded.utterance_id] = decoded
                    yield decoded.utterance_id
                writing.call(self._write, write, number, labels)

    def _write(self, write: WriteShard, number: int, labels: dict[str, Decoded]) -> None:
        refused: list[Rejection] = []
        path = self.store.shard_paths[number]
        frame_seconds = self.decoder.model.frame_seconds
        write(number, _records(self.store, path, labels, frame_seconds, refused), refused)


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
    store: Store,
    path: Path,
    labels: dict[str, Decoded],
    frame_seconds: float,
    refused: list[Rejection],
) -> Iterator[PseudoLabelRecord]:
    """The shard's utterances in order, each with its hypotheses, or refused by name."""
    for record in ordered_records(path, store.kind, shard_ids(path)):
        utterance = record.utterance
        hypotheses = hypotheses_of(labels[utterance.utterance_id], frame_seconds)
        if hypotheses:
            yield PseudoLabelRecord(utterance, hypotheses)
        else:
            detail = "the search found no sequence of finite probability"
            refused.append(Rejection(utterance.utterance_id, "no_hypothesis", detail, str(path)))
