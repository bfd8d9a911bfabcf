"""Copies some utterances of a store into a store of their own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tfkd.records import UTTERANCES, Plan, Store, StoreWriter


def write_subset(
    store: Store, utterance_ids: Collection[str], out: str | Path, *, digest: str, source: str
) -> None:
    """Copies utterances, without hypotheses, into a store of one shard, unless it exists.

    Args:
      store: utterances or pseudo labels.
      utterance_ids: those to copy.
      out: folder of the new store.
      digest: describes how they were chosen, for the plan of the new store.
      source: name of `store` in this plan.
    Raises:
      RecordError: if `out` holds another store, or cannot be written.
    """
    plan = Plan.create(
        UTTERANCES, utterance_ids, digest, {source: store.sha256}, len(utterance_ids)
    )
    with StoreWriter(out, plan) as writer:
        for number in writer.pending_shards():
            chosen = (r.utterance for r in store.records() if r.utterance_id in utterance_ids)
            writer.write_shard(number, chosen)
        writer.complete()
