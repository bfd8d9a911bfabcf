"""Takes what a teacher says for what was said, where nobody has transcribed it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tfkd.records import UTTERANCES, Plan, PseudoLabelRecord, Store, StoreWriter, UtteranceRecord


def write_references(labels: Store, out: str | Path) -> None:
    """Writes the utterances of labels, each with its best hypothesis as transcript, unless done.

    Args:
      labels: pseudo labels.
      out: folder of the new store of utterances.
    Raises:
      RecordError: if `out` holds another store, or cannot be written.
    """
    ids = [row["utterance_id"] for row in labels.index]
    plan = Plan.create(UTTERANCES, ids, "best hypotheses", {"labels": labels.sha256}, len(ids))
    with StoreWriter(out, plan) as writer:
        for number in writer.pending_shards():
            writer.write_shard(number, _with_best_hypotheses(labels))
        writer.complete()


def _with_best_hypotheses(labels: Store) -> Iterator[UtteranceRecord]:
    for record in labels.records():
        if isinstance(record, PseudoLabelRecord):
            yield dataclasses.replace(record.utterance, text=record.hypotheses[0].text)
