"""The plan of a store: the shard of each utterance, and the sources of the content."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tfkd.errors import RecordError
from tfkd.records.schema import KINDS
from tfkd.storage.json_files import checked_object, refusing
from tfkd.storage.sealed_json import read_sealed, seal_of, write_sealed

FORMAT = 2  # Increased when the layout of a store changes; older stores are then refused.
OTHER_FOLDER = "choose another --out or work_dir, or delete this folder"

_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Plan:
    """Describes the content of a store before it is written; equal plans give equal stores.

    Attributes:
      kind: one of KINDS.
      digest: digest of the resolved config.
      sources: sha256 of everything that the content depends on, such as corpus and teacher, by
        name.
      shards: the ids of each shard, sorted by code point across all shards.
      settings: the config as `key=value`, which tells people what the digest is of; no part of the
        plan's identity. Stores of earlier versions have none.
    """

    kind: str
    digest: str
    sources: dict[str, str]
    shards: tuple[tuple[str, ...], ...]
    settings: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def create(
        cls,
        kind: str,
        utterance_ids: Iterable[str],
        digest: str,
        sources: dict[str, str],
        shard_size: int,
        settings: Sequence[str] = (),
    ) -> Plan:
        """Sorts the ids and divides them into shards of `shard_size`; the last may be smaller.

        Raises:
          RecordError: if an id is given twice, is empty, or is not UTF-8.
          ValueError: if the kind is unknown or shard_size < 1.
        """
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r} is not one of {KINDS}")
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}, not 1 or more")
        ids = sorted(utterance_ids)
        _check_ids(ids)
        starts = range(0, len(ids), shard_size)
        shards = tuple(tuple(ids[start : start + shard_size]) for start in starts)
        return cls(kind, digest, dict(sources), shards, tuple(settings))

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the plan, its identity."""
        return seal_of(self._to_json())

    @property
    def num_utterances(self) -> int:
        """Number of planned utterances."""
        return sum(map(len, self.shards))

    def shard_name(self, number: int) -> str:
        """File name of shard `number`, counted from 0."""
        return f"{self.kind}-{number:05d}-of-{len(self.shards):05d}.tfrecord"

    def write(self, path: Path) -> None:
        """Writes the plan.

        Raises:
          RecordError: if it cannot be written.
        """
        write_sealed(path, {**self._to_json(), "settings": list(self.settings)})

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads what `write` wrote.

        Raises:
          RecordError: if the file is missing, was changed, or is of another format.
        """
        value = read_sealed(path)
        if value.get("format") != FORMAT:
            raise RecordError(
                f"has the format {value.get('format')}; this version of tfkd reads {FORMAT}",
                path=path,
                remedy="make the store again, in another folder",
            )
        with refusing(path, "make the store again, in another folder"):
            return cls._from_json(value)

    def check_same(self, existing: Plan, path: Path) -> None:
        """Checks that a store was begun with this plan.

        Raises:
          RecordError: if it was begun with another one; it names what differs.
        """
        if existing.sha256 != self.sha256:
            raise RecordError(
                "was made by another plan: " + "; ".join(_differences(existing, self)),
                path=path,
                remedy=OTHER_FOLDER,
            )

    @classmethod
    def _from_json(cls, value: dict[str, Any]) -> Plan:
        """Reads what `_to_json` wrote; raises ValueError if it is something else."""
        fields = {"kind": str, "digest": str, "sources": dict, "shards": list}
        value = checked_object(value, fields)
        if value["kind"] not in KINDS:
            raise ValueError(f"plans a store of unknown kind {value['kind']!r}")
        shards = value["shards"]
        lists = [ids for ids in shards if isinstance(ids, list)]
        if len(lists) != len(shards) or not all(isinstance(i, str) for ids in lists for i in ids):
            raise ValueError("plans shards that are no lists of ids")
        if not all(isinstance(digest, str) for digest in value["sources"].values()):
            raise ValueError("names a source without a digest")
        settings = value.get("settings", [])
        if not isinstance(settings, list) or not all(isinstance(each, str) for each in settings):
            raise ValueError("holds settings that are no list of texts")
        shards = tuple(map(tuple, shards))
        return cls(value["kind"], value["digest"], value["sources"], shards, tuple(settings))

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "digest": self.digest,
            "sources": self.sources,
            "shards": [list(ids) for ids in self.shards],
        }


def _check_ids(sorted_ids: list[str]) -> None:
    for utterance_id, following in itertools.zip_longest(sorted_ids, sorted_ids[1:]):
        if utterance_id == following:
            raise RecordError(
                "its id is given twice", utterance_id=utterance_id, remedy="make the ids unique"
            )
        if not utterance_id or utterance_id != printable(utterance_id):
            raise RecordError(
                f"the utterance id {utterance_id!r} is empty or is not UTF-8",
                remedy="change it in the corpus",
            )


def printable(text: str) -> str:
    """Escapes what UTF-8 cannot express, such as undecodable bytes of a path."""
    return text.encode(errors="backslashreplace").decode()


def _differences(existing: Plan, wanted: Plan) -> Iterator[str]:
    named = {"kind": (existing.kind, wanted.kind)}
    own = [each for each in existing.settings if each not in wanted.settings]
    others = [each for each in wanted.settings if each not in existing.settings]
    if existing.digest != wanted.digest and own and others:
        yield f"its settings are {', '.join(own)} there and {', '.join(others)} here"
    else:
        named["config digest"] = (existing.digest, wanted.digest)
    for name in sorted(existing.sources.keys() | wanted.sources.keys()):
        named[f"source {name}"] = (
            existing.sources.get(name, "nothing"),
            wanted.sources.get(name, "nothing"),
        )
    for name, (there, here) in named.items():
        if there != here:
            yield f"{name} is {there[:_SHOWN_DIGITS]} there and {here[:_SHOWN_DIGITS]} here"
    if existing.shards != wanted.shards:
        yield "the utterances, or their division into shards, differ"
