"""Opens a finished store, and verifies that its files agree with its completion marker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tfkd.corpora import Rejection
from tfkd.corpora.pieces import Piece
from tfkd.errors import RecordError, did_you_mean
from tfkd.records.plan import Plan, printable
from tfkd.records.schema import Record
from tfkd.records.shards import (
    INDEX_ROW,
    Sidecar,
    inspect_shard,
    ordered_records,
    shard_ids,
    sidecar_path,
)
from tfkd.storage.files import REDO, reading, sha256
from tfkd.storage.json_files import (
    checked_object,
    dataclass_of,
    read_dataclass_lines,
    read_json_lines,
    refusing,
)
from tfkd.storage.markers import COMPLETE, PLAN, SHARDS
from tfkd.storage.sealed_json import read_sealed, seal_of

INDEX = "index.jsonl"
REJECTED = "rejected.jsonl"
PIECES = "pieces.jsonl"

# The fields of the marker, and of each shard's row in it.
_MARKER = {"plan_sha256": str, "summary": dict, "shards": list, "files": dict}
_MARKER_SHARD = {
    "name": str,
    "sha256": str,
    "size_bytes": int,
    "records": int,
    "rejected": int,
    "sidecar_sha256": str,
}

_NUM_SUGGESTIONS = 3


@dataclass(frozen=True)
class StoreSummary:
    """Counts of a finished store: records + rejected = planned utterances.

    Attributes:
      kind: one of KINDS.
      rejected: number of planned utterances that could not be used.
      rejected_before_planning: number of duplicates and unreadable lines of the corpus.
      duration_seconds: duration of all records together.
      sha256: identity of the content; see Store.sha256.
      split, pieces: number of long recordings that were cut, and of the pieces that were planned in
        their place.
    """

    kind: str
    num_shards: int
    records: int
    rejected: int
    rejected_before_planning: int
    duration_seconds: float
    sha256: str
    split: int = 0
    pieces: int = 0


@dataclass(frozen=True)
class Store:
    """A finished store of utterances or pseudo labels; `open_store` opens one.

    Attributes:
      directory: its folder.
      plan: the shard of each utterance, and the sources of the content.
      summary: counts; records + rejected = planned utterances.
      marker: content of `complete.json`.
      corpus: what a user named, if `directory` holds it for the time of a command.

    >>> labels = tfkd.open_store("work/labels")
    >>> labels.kind
    'pseudo_labels'
    >>> record = labels.record(labels.index[0]["utterance_id"])
    >>> record.hypotheses[0].log_prob <= 0  # natural logarithm of the whole sequence, EOS included
    True
    >>> record.utterance.audio[:4]
    b'fLaC'
    """

    directory: Path
    plan: Plan
    summary: StoreSummary
    marker: dict[str, Any]
    corpus: Path | None = None

    @property
    def name(self) -> Path:
        """What a user knows the store by."""
        return self.corpus or self.directory

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return self.plan.kind

    @property
    def sha256(self) -> str:
        """Identity of the content: a digest of the names and bytes of the shards."""
        return self.summary.sha256

    @property
    def shard_paths(self) -> list[Path]:
        """Paths of the TFRecord files in the plan's order; a shard may be empty."""
        return [
            shard_path(self.directory, self.plan, number) for number in range(len(self.plan.shards))
        ]

    @cached_property
    def index(self) -> list[dict[str, Any]]:
        """A row for each record, in the plan's order; see `index_row` for the keys."""
        return list(read_json_lines(self.directory / INDEX, INDEX_ROW, remedy=REDO))

    @cached_property
    def rejections(self) -> list[Rejection]:
        """Every rejected utterance, those rejected before planning first."""
        return list(read_dataclass_lines(self.directory / REJECTED, Rejection, remedy=REDO))

    @cached_property
    def pieces(self) -> list[Piece]:
        """The origin of each piece of a long recording; empty if none was cut."""
        if PIECES not in self.marker["files"]:
            return []
        return list(read_dataclass_lines(self.directory / PIECES, Piece, remedy=REDO))

    def records(self) -> Iterator[Record]:
        """Yields the records in the plan's order, and verifies each.

        Raises:
          RecordError: if a shard is damaged, or belongs to another store.
        """
        for path in self.shard_paths:
            yield from ordered_records(path, self.kind, shard_ids(path))

    def record(self, utterance_id: str) -> Record:
        """Reads one record; only its own shard is opened.

        Raises:
          RecordError: if there is no such record (the message says why it was rejected, or which
            ids are similar), or its shard is damaged.
        """
        names = {row["utterance_id"]: row["shard"] for row in self.index}
        if utterance_id not in names:
            raise self._absent(utterance_id, names)
        path = self.directory / SHARDS / names[utterance_id]
        records = ordered_records(path, self.kind, shard_ids(path))
        (found,) = (record for record in records if record.utterance_id == utterance_id)
        return found

    def _absent(self, utterance_id: str, known: Iterable[str]) -> RecordError:
        for rejection in self.rejections:
            if rejection.utterance_id == utterance_id:
                return RecordError(
                    f"was rejected: {rejection.reason}, {rejection.detail}",
                    path=self.directory,
                    utterance_id=utterance_id,
                    remedy=f"the ids that the store holds are in {INDEX}",
                )
        return RecordError(
            f"has no utterance {printable(utterance_id)!r}",
            path=self.directory,
            remedy=did_you_mean(utterance_id, known, count=_NUM_SUGGESTIONS)
            or f"its ids are in {INDEX}",
        )

    def verify(self, *, deep: bool = True) -> None:
        """Compares the files with the completion marker.

        Args:
          deep: whether to read every byte of every shard; otherwise only their sizes are compared.
        Raises:
          RecordError: if a file disagrees.
        """
        if self.marker["plan_sha256"] != self.plan.sha256:
            raise RecordError("belongs to another plan", path=self.directory / PLAN, remedy=REDO)
        for name, expected in self.marker["files"].items():
            _check_sha256(self.directory / name, expected)
        self._check_no_other_shards()
        for number, row in enumerate(self.marker["shards"]):
            self._check_size(number, row["size_bytes"])
            _check_sha256(sidecar_path(self.shard_paths[number]), row["sidecar_sha256"])
            if deep:
                self._check_content(number)

    def _check_no_other_shards(self) -> None:
        """Raises RecordError for shards that are not planned: readers that list the folder would
        read them.
        """
        planned = {path.name for path in self.shard_paths}
        others = {path.name for path in (self.directory / SHARDS).glob("*.tfrecord")} - planned
        if others:
            raise RecordError(
                f"holds {len(others)} shards that are not in the plan, such as {min(others)}",
                path=self.directory / SHARDS,
                remedy="move them away",
            )

    def _check_size(self, number: int, expected: int) -> None:
        path = self.shard_paths[number]
        with reading(path):
            size = path.stat().st_size
        if size != expected:
            raise RecordError(f"has {size} bytes, not {expected}", path=path, remedy=REDO)

    def _check_content(self, number: int) -> None:
        path = self.shard_paths[number]
        sidecar = Sidecar.read(sidecar_path(path))
        if inspect_shard(path, self.plan, number, sidecar.rejections) != sidecar:
            raise RecordError("is not what its sidecar describes", path=path, remedy=REDO)


def shard_path(directory: Path, plan: Plan, number: int) -> Path:
    """The path of shard `number` of a store."""
    return directory / SHARDS / plan.shard_name(number)


def is_store(directory: str | Path) -> bool:
    """Whether a folder holds a store, finished or unfinished.

    Raises:
      RecordError: if the folder cannot be read.
    """
    with reading(Path(directory)):
        return (Path(directory) / PLAN).exists()


def open_store(directory: str | Path, *, kind: str | None = None) -> Store:
    """Opens a finished store after it has compared the sizes of its shards and its small files.

    It reads no audio; `open_verified` reads every byte.

    Args:
      directory: folder that `tfkd prepare`, `tfkd label` or a StoreWriter finished.
      kind: "utterances" or "pseudo_labels"; a store of the other kind is refused.
    Raises:
      RecordError: if the store is missing, unfinished or of another kind, disagrees with its
        marker, or holds shards that are not in its plan.

    >>> store = tfkd.open_store("work/data/valid", kind="utterances")
    >>> store.summary.records == len(store.index)
    True
    >>> record = next(store.records())
    >>> record.num_samples / record.sample_rate_hz == store.index[0]["duration_seconds"]
    True
    """
    directory = Path(directory)
    _check_finished(directory)
    marker = read_sealed(directory / COMPLETE, _MARKER)
    plan = Plan.read(directory / PLAN)
    if kind is not None and plan.kind != kind:
        raise RecordError(
            f"is a store of {plan.kind}, not of {kind}",
            path=directory,
            remedy=f"give a folder of {kind}",
        )
    with refusing(directory / COMPLETE, REDO):
        summary = dataclass_of(StoreSummary, marker["summary"])
        _check_marker(marker, summary, plan)
    store = Store(directory, plan, summary, marker)
    store.verify(deep=False)
    return store


def open_verified(directory: str | Path) -> Store:
    """Opens a finished store after it has read and verified every byte.

    Use it before TensorFlow reads the shards, which takes a damaged shard for a shorter one.

    Raises:
      RecordError: as `open_store` and `Store.verify`; and if the store has no record.
    """
    store = open_store(directory)
    store.verify(deep=True)
    if not store.summary.records:
        raise RecordError(
            "holds no utterances", path=store.directory, remedy="see its rejected.jsonl"
        )
    return store


def _check_marker(marker: dict[str, Any], summary: StoreSummary, plan: Plan) -> None:
    """Raises ValueError if the parts of a marker contradict each other or the plan."""
    rows = [checked_object(row, _MARKER_SHARD) for row in marker["shards"]]
    if [row["name"] for row in rows] != list(map(plan.shard_name, range(len(plan.shards)))):
        raise ValueError("does not name the shards of the plan")
    small_files = {INDEX, REJECTED, *([PIECES] if summary.pieces else [])}
    if not small_files <= marker["files"].keys():
        raise ValueError(f"does not seal {', '.join(sorted(small_files - marker['files'].keys()))}")
    counted = {
        "kind": plan.kind,
        "num_shards": len(rows),
        "records": sum(row["records"] for row in rows),
        "rejected": sum(row["rejected"] for row in rows),
        "sha256": seal_of({row["name"]: row["sha256"] for row in rows}),
    }
    for name, value in counted.items():
        if getattr(summary, name) != value:
            raise ValueError(f"says that {name} is {getattr(summary, name)}, its shards {value}")
    for row, planned in zip(rows, plan.shards, strict=True):
        if row["records"] + row["rejected"] != len(planned):
            raise ValueError(f"does not account for every utterance of {row['name']}")


def _check_finished(directory: Path) -> None:
    with reading(directory):
        is_begun, is_complete = is_store(directory), (directory / COMPLETE).exists()
    if not is_begun:
        raise RecordError(
            "is not a store of shards", path=directory, remedy="make it with `tfkd prepare`"
        )
    if not is_complete:
        raise RecordError(
            "is not complete",
            path=directory,
            remedy="run the command that writes it again: it continues where it stopped",
        )


def _check_sha256(path: Path, expected: str) -> None:
    with reading(path):
        found = sha256(path)
    if found != expected:
        raise RecordError("was changed after the store was finished", path=path, remedy=REDO)
