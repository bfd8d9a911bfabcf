"""Reads single records of a finished store, in any order."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tfkd.errors import RecordError
from tfkd.records.schema import Record
from tfkd.records.shards import record_of
from tfkd.records.store import Store
from tfkd.records.tfrecord import read_record_at, record_offsets
from tfkd.storage.files import REDO
from tfkd.storage.markers import SHARDS


class RandomAccess:
    """Reads the records of a store by their place in its index.

    Only the offsets of the records are kept in memory.

    Raises:
      RecordError: if a shard is damaged, or holds another number of records than the index.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._places: list[tuple[Path, int, int]] = []  # shard, number in it, first byte
        for name, rows in groupby(store.index, key=lambda row: row["shard"]):
            path = store.directory / SHARDS / name
            offsets, expected = record_offsets(path), sum(1 for _ in rows)
            if len(offsets) != expected:
                raise RecordError(
                    f"holds {len(offsets)} records, not {expected}", path=path, remedy=REDO
                )
            self._places += [(path, number, offset) for number, offset in enumerate(offsets)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Record:
        path, number, offset = self._places[place]
        record = record_of(read_record_at(path, number, offset), self.store.kind, path)
        expected = self.store.index[place]["utterance_id"]
        if record.utterance_id != expected:
            raise RecordError(
                f"found where utterance {expected} was planned",
                path=path,
                utterance_id=record.utterance_id,
                remedy=REDO,
            )
        return record
