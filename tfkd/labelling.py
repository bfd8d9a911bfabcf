"""Pseudo labels: the teacher's k best for every utterance, decoded once.

A shard of labels answers a shard of utterances, so a rerun decodes only the shards that are not
there yet; see `tfkd.records.writer` for what makes a shard safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tfkd.config import LabelConfig, config_digest
from tfkd.corpora import Rejection
from tfkd.datasets import audio_batches
from tfkd.decoding import Decoded, Decoder, decode_dataset, hypotheses_of
from tfkd.records import (
    PSEUDO_LABELS,
    Plan,
    PseudoLabelRecord,
    Store,
    StoreSummary,
    StoreWriter,
    UtteranceRecord,
)
from tfkd.records.shards import ordered_records, shard_ids
from tfkd.runs import Run


def label(run: Run, store: Store, out: str | Path, config: LabelConfig) -> StoreSummary:
    """Decodes every utterance of `store` with the teacher `run` into a store of pseudo labels.

    Labelled and rejected utterances together are those of the manifest that `store` came from.

    Raises:
      RecordError: if `out` holds labels of another teacher, data or settings.
    """
    plan = Plan(
        kind=PSEUDO_LABELS,
        digest=config_digest(config),
        sources={"teacher": run.sha256, "utterances": store.sha256},
        shards=tuple(map(shard_ids, store.shard_paths)),
    )
    decoder = Decoder(run.model, run.tokenizer, config.decoding(run.system.decoding))
    with StoreWriter(out, plan) as writer:
        pending = writer.pending_shards()
        total = sum(len(plan.shards[number]) for number in pending)
        with tqdm(total=total, desc="label", unit="utt", disable=None) as bar:
            for number in pending:
                path = store.shard_paths[number]
                batches = audio_batches(store, config.batch_size, shard_paths=[path])
                labels = {}
                for decoded in decode_dataset(decoder, batches):
                    labels[decoded.utterance_id] = decoded
                    bar.update()
                refused: list[Rejection] = []
                records = _records(store, path, labels, decoder.model.frame_seconds, refused)
                writer.write_shard(number, records, refused)
        return writer.complete(store.rejections)


def _records(
    store: Store,
    path: Path,
    labels: dict[str, Decoded],
    frame_seconds: float,
    refused: list[Rejection],
) -> Iterator[PseudoLabelRecord]:
    """The shard's utterances in order, each with its hypotheses, or refused by name."""
    for record in ordered_records(path, store.kind, shard_ids(path)):
        utterance = record if isinstance(record, UtteranceRecord) else record.utterance
        hypotheses = hypotheses_of(labels[utterance.utterance_id], frame_seconds)
        if hypotheses:
            yield PseudoLabelRecord(utterance, hypotheses)
        else:
            detail = "the search found no sequence of finite probability"
            refused.append(Rejection(utterance.utterance_id, "no_hypothesis", detail, str(path)))
