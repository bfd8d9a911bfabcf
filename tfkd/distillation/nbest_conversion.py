"""Converts pseudo labels to and from n-best lists, so that any recogniser can be the teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from tfkd.config import PrepareConfig, config_digest, overrides_of, to_dict
from tfkd.corpora import Rejection
from tfkd.data.rejections import check_rejected_share
from tfkd.distillation.nbest import NBestList
from tfkd.errors import ManifestError, did_you_mean
from tfkd.progress import progress_bar
from tfkd.records import (
    PSEUDO_LABELS,
    Plan,
    PseudoLabelRecord,
    Record,
    Store,
    StoreSummary,
    StoreWriter,
)
from tfkd.records.plan import printable
from tfkd.records.shards import ordered_records, shard_ids
from tfkd.storage.files import atomic_write


def labels_to_jsonl(store: Store, out: str | Path) -> None:
    """Writes a store of pseudo labels as an n-best list: every field but the audio.

    Raises:
      RecordError: if a shard is damaged, or `out` cannot be written.
    """
    with atomic_write(out) as file:
        for record in progress_bar(
            store.records(), total=store.summary.records, desc="write", unit="utt"
        ):
            file.write(json.dumps(row_of(record), ensure_ascii=False).encode() + b"\n")


def row_of(record: Record) -> dict[str, Any]:
    """Converts a record without its audio to a JSON object; fields without a value are left out."""
    utterance = record.utterance
    row = {
        "utterance_id": utterance.utterance_id,
        "num_samples": utterance.num_samples,
        "sample_rate_hz": utterance.sample_rate_hz,
        "text": utterance.text,
        "speaker": utterance.speaker,
    }
    if isinstance(record, PseudoLabelRecord):
        row["hypotheses"] = [_known(asdict(hypothesis)) for hypothesis in record.hypotheses]
    return _known(row)


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value not in (None, ())}


def jsonl_to_labels(
    path: str | Path, store: Store, out: str | Path, config: PrepareConfig
) -> StoreSummary:
    """Combines an n-best list with the audio and references of `store` into pseudo labels.

    The whole list is checked before anything is written; `tfkd.distillation.nbest` describes its
    format. Utterances without hypotheses are rejected by name, so labelled + rejected = manifest. A
    rerun continues where an earlier one was killed.

    Args:
      path: the n-best list.
      store: utterances, or pseudo labels whose own hypotheses are ignored.
      out: folder of the new store.
      config: its `text` and `tags` normalise the hypotheses, its `max_rejected_share` limits the
        rejections.
    Returns:
      How many utterances were labelled and rejected.
    Raises:
      ManifestError: if the list is malformed, has an utterance that the store lacks, or has no
        hypotheses for too large a share of the store.
      RecordError: if `out` holds other labels, or cannot be written.
    """
    nbest = NBestList.scan(path, config.text.extra_characters, tags=config.tags)
    shards = tuple(map(shard_ids, store.shard_paths))
    planned = [utterance_id for shard in shards for utterance_id in shard]
    _check_ids(nbest, store, planned)
    missing = [_rejection(each, nbest) for each in planned if not nbest.has_hypotheses(each)]
    check_rejected_share(missing, len(planned), config, nbest.path)
    sources = {"nbest": nbest.sha256, "utterances": store.sha256}
    settings = overrides_of({"text": to_dict(config.text), "tags": config.tags})
    plan = Plan(PSEUDO_LABELS, _digest(config), sources, shards, tuple(settings))
    with StoreWriter(out, plan) as writer:
        pending = writer.pending_shards()
        total = sum(len(plan.shards[number]) for number in pending)
        with progress_bar(total=total, desc="join", unit="utt") as bar:
            for number in pending:
                refused: list[Rejection] = []
                records = _records(store, number, nbest, refused, bar)
                writer.write_shard(number, records, refused)
        return writer.complete(store.rejections, store.pieces)


def _digest(config: PrepareConfig) -> str:
    """Digest of the settings that the labels depend on."""
    # The default is left out, so that labels of earlier versions, which left tags out, stay valid.
    tags = () if config.tags == "drop" else (config.tags,)
    return config_digest(config.text, *tags)


def _check_ids(nbest: NBestList, store: Store, planned: Sequence[str]) -> None:
    """Raises ManifestError if the list has utterances that the store neither kept nor rejected."""
    known = {*planned, *(rejection.utterance_id for rejection in store.rejections)}
    unknown = [utterance_id for utterance_id in nbest.offsets if utterance_id not in known]
    if unknown:
        example = unknown[0]
        stem = PurePosixPath(example).stem
        raise ManifestError(
            f"{len(unknown)} of its {len(nbest.offsets)} utterances are not among the "
            f"{len(planned)} of the data, for example {printable(example)!r}",
            path=nbest.path,
            remedy=f"the data calls it {printable(stem)!r}"
            if stem in known
            else did_you_mean(example, planned)
            or f"the data has ids like {planned[0]!r}: give the data that was recognised",
        )


def _records(
    store: Store, number: int, nbest: NBestList, refused: list[Rejection], bar: tqdm
) -> Iterator[PseudoLabelRecord]:
    """Yields the labels of a shard in order; adds utterances without hypotheses to `refused`."""
    path = store.shard_paths[number]
    ids = shard_ids(path)
    for record, hypotheses in zip(
        ordered_records(path, store.kind, ids), nbest.hypotheses(ids), strict=True
    ):
        bar.update()
        if hypotheses:
            yield PseudoLabelRecord(record.utterance, hypotheses)
        else:
            refused.append(_rejection(record.utterance_id, nbest))


def _rejection(utterance_id: str, nbest: NBestList) -> Rejection:
    return Rejection(
        utterance_id, "no_hypothesis", "the n-best list has no text of it", str(nbest.path)
    )
