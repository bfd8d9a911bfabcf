"""A store of some of another store's utterances."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tfkd.records import UTTERANCES, Plan, Store, StoreWriter


def write_subset(
    store: Store, utterance_ids: Collection[str], out: str | Path, *, digest: str, source: str
) -> None:
    """Copies utterances without hypotheses into a store of one shard, unless they are there.

    Args:
      digest: says how they were chosen.
      source: name of `store` in the plan of the new one.
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
