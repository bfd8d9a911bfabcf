"""Writes a store such that a crash loses one shard at most, and a rerun completes it.

A shard is written under a temporary name, fsynced, read back and verified, and then renamed; the
completion marker is written last.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tfkd.corpora import Rejection
from tfkd.corpora.pieces import Piece
from tfkd.errors import RecordError
from tfkd.records.plan import OTHER_FOLDER, Plan, printable
from tfkd.records.schema import RECORD_TYPES, Record
from tfkd.records.shards import Sidecar, clean_rejection, inspect_shard, sidecar_path
from tfkd.records.store import (
    INDEX,
    PIECES,
    PLAN,
    REJECTED,
    StoreSummary,
    open_store,
    shard_path,
)
from tfkd.records.tfds import DATASET_INFO, FEATURES, dataset_info_json, features_json
from tfkd.records.tfrecord import frame
from tfkd.storage.files import atomic_write, reading, sha256, sync, write_json, writing
from tfkd.storage.locks import locked
from tfkd.storage.markers import COMPLETE, SHARDS
from tfkd.storage.sealed_json import seal_of, write_sealed

# The small files whose sha256 is in the marker.
_SEALED = (INDEX, REJECTED, FEATURES, DATASET_INFO)


def write_shard(
    directory: str | Path,
    plan: Plan,
    number: int,
    records: Iterable[Record],
    rejections: Iterable[Rejection] = (),
) -> None:
    """Writes one shard of a store, reads it back, and then gives it its final name.

    Several processes may call this for a store whose StoreWriter one of them holds open, even for
    the same shard: each writes a file of its own, and the last one remains.

    Args:
      directory: folder of the store.
      plan: of the store.
      number: of the shard.
      records: in the plan's order, without the rejected ones.
      rejections: read after `records` is exhausted, so the source of the records may fill it.
    Raises:
      RecordError: if records and rejections are not exactly the shard's planned utterances, or the
        disk fails; an existing shard is then unchanged.
      ValueError: if the plan has no shard of that number.
    """
    if not 0 <= number < len(plan.shards):
        raise ValueError(f"shard {number} is not one of {len(plan.shards)}")
    path = shard_path(Path(directory), plan, number)
    with atomic_write(path) as file:
        for payload in _payloads(records, plan.kind, path):
            file.write(frame(payload))
        file.flush()
        os.fsync(file.fileno())
        sidecar = _read_back(Path(file.name), path, plan, number, list(rejections))
    sidecar.write(sidecar_path(path))


def is_written(directory: str | Path, plan: Plan, number: int) -> bool:
    """Whether a shard exists and every byte of it agrees with its sidecar."""
    path = shard_path(Path(directory), plan, number)
    try:
        sidecar = Sidecar.read(sidecar_path(path))
        return inspect_shard(path, plan, number, sidecar.rejections) == sidecar
    except RecordError:
        # The caller writes the shard again, whatever is wrong with it.
        return False


def is_finished(directory: str | Path, plan: Plan) -> bool:
    """Whether a folder holds the finished store of a plan; reads no shard.

    What is missing or damaged there is not finished: a StoreWriter writes it again.

    Raises:
      RecordError: if it holds a store of another plan, which a StoreWriter would refuse.
    """
    path = Path(directory) / PLAN
    try:
        existing = Plan.read(path)
    except RecordError:
        return False
    plan.check_same(existing, path)
    try:
        open_store(directory)
    except RecordError:
        return False
    return True


class StoreWriter:
    """Writes the shards of a plan into a folder, which it locks while it is open.

    Raises:
      BusyError: if another process writes into the folder.
      RecordError: if the folder holds a store of another plan, or cannot be written.
    """

    def __init__(self, directory: str | Path, plan: Plan) -> None:
        self.directory = Path(directory)
        self.plan = plan
        self._done: set[int] = set()
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(locked(self.directory))
        try:
            self._adopt_plan()
            self._remove_leftovers()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock of the folder."""
        self._lock.close()

    def pending_shards(self) -> list[int]:
        """Lists the numbers of the shards that are missing, damaged or unfinished.

        Reads every byte of a shard, once.
        """
        for number in range(len(self.plan.shards)):
            if number not in self._done and is_written(self.directory, self.plan, number):
                self._done.add(number)
        return [number for number in range(len(self.plan.shards)) if number not in self._done]

    def reopen(self) -> None:
        """Removes the completion marker; call it before any shard is written.

        From then on the store may differ from what an earlier run has completed.
        """
        with writing(self.directory / COMPLETE):
            (self.directory / COMPLETE).unlink(missing_ok=True)

    def write_shard(
        self, number: int, records: Iterable[Record], rejections: Iterable[Rejection] = ()
    ) -> None:
        """Writes one shard of the plan; see the function `write_shard`."""
        self._done.discard(number)
        self.reopen()
        write_shard(self.directory, self.plan, number, records, rejections)
        self._done.add(number)

    @property
    def is_complete(self) -> bool:
        """Whether an earlier run has completed the store, and nothing was written since."""
        return (self.directory / COMPLETE).exists()

    def rejections(self, planless_rejections: Iterable[Rejection] = ()) -> list[Rejection]:
        """Returns every rejected utterance, those without a plan first.

        Args:
          planless_rejections: utterances rejected before planning (duplicates, bad lines).
        Raises:
          RecordError: if a shard is still to be written, or the disk fails.
        """
        pending = self.pending_shards()
        if pending:
            raise RecordError(
                f"{len(pending)} of {len(self.plan.shards)} shards are still to be written",
                path=self.directory,
                remedy="write the pending shards first",
            )
        rejections = [clean_rejection(each) for each in planless_rejections]
        for _, sidecar in self._sidecars():
            rejections.extend(sidecar.rejections)
        return rejections

    def write_rejections(self, planless_rejections: Iterable[Rejection] = ()) -> list[Rejection]:
        """Lists every rejected utterance in `rejected.jsonl`, before the store is complete.

        Arguments, result and errors are those of `rejections`.
        """
        rejections = self.rejections(planless_rejections)
        _write_lines(self.directory / REJECTED, map(asdict, rejections))
        return rejections

    def complete(
        self, planless_rejections: Sequence[Rejection] = (), pieces: Sequence[Piece] = ()
    ) -> StoreSummary:
        """Writes the small files and, last, the completion marker, which makes the store readable.

        The small files are the index, the rejections, and the description for TensorFlow Datasets.

        Args:
          planless_rejections: as for `rejections`.
          pieces: the origin of utterances that are parts of a long recording.
        Returns:
          The counts of the store.
        Raises:
          RecordError: if a shard is still to be written, or the disk fails.
        """
        rejected = len(self.write_rejections(planless_rejections)) - len(planless_rejections)
        self._remove_leftovers()
        shards: list[dict[str, Any]] = []
        seconds: list[float] = []

        def entries() -> Iterator[dict[str, Any]]:
            # Read one sidecar at a time, because the index of a large corpus may not fit in memory.
            for path, sidecar in self._sidecars():
                shards.append(_shard_row(path, sidecar))
                seconds.append(math.fsum(row["duration_seconds"] for row in sidecar.entries))
                yield from sidecar.entries

        _write_lines(self.directory / INDEX, entries())
        if pieces:
            rows = ({**asdict(piece), "source": printable(piece.source)} for piece in pieces)
            _write_lines(self.directory / PIECES, rows)
        write_json(self.directory / FEATURES, features_json(self.plan.kind))
        write_json(self.directory / DATASET_INFO, dataset_info_json(self.plan, shards))
        summary = StoreSummary(
            kind=self.plan.kind,
            num_shards=len(shards),
            records=sum(row["records"] for row in shards),
            rejected=rejected,
            rejected_before_planning=len(planless_rejections),
            duration_seconds=math.fsum(seconds),
            sha256=seal_of({row["name"]: row["sha256"] for row in shards}),
            split=len({piece.source_id for piece in pieces}),
            pieces=len(pieces),
        )
        self._write_marker(summary, shards)
        return summary

    def _sidecars(self) -> Iterator[tuple[Path, Sidecar]]:
        for number in range(len(self.plan.shards)):
            path = shard_path(self.directory, self.plan, number)
            yield path, Sidecar.read(sidecar_path(path))

    def _write_marker(self, summary: StoreSummary, shards: list[dict[str, Any]]) -> None:
        sealed = [*_SEALED, PIECES] if summary.pieces else _SEALED
        marker = {
            "plan_sha256": self.plan.sha256,
            "summary": asdict(summary),
            "shards": shards,
            "files": {name: _sha256(self.directory / name) for name in sealed},
        }
        write_sealed(self.directory / COMPLETE, marker)

    def _adopt_plan(self) -> None:
        path = self.directory / PLAN
        shards = self.directory / SHARDS
        with reading(path):
            is_begun = path.exists()
        if is_begun:
            self._check_or_mend(path)
        elif any(shards.glob("*.tfrecord")):
            if not self._has_written_all():
                what = "holds shards of another plan, but not the plan"
                raise RecordError(what, path=self.directory, remedy=OTHER_FOLDER)
            self.plan.write(path)
        elif other := self._other_file():
            what = f"is no store and holds other files, such as {printable(other)}"
            raise RecordError(what, path=self.directory, remedy=OTHER_FOLDER)
        else:
            self.plan.write(path)
        with writing(shards):
            shards.mkdir(exist_ok=True)
            sync(self.directory)

    def _other_file(self) -> str | None:
        """A file or folder that was there before; those of locks and systems are hidden."""
        names = (entry.name for entry in sorted(self.directory.iterdir()))
        return next((name for name in names if not name.startswith(".") and name != SHARDS), None)

    def _check_or_mend(self, path: Path) -> None:
        """Checks an existing plan; a damaged one is repaired if all shards are of this plan."""
        try:
            existing = Plan.read(path)
        except RecordError as error:
            if not self._has_written_all():
                raise RecordError(error.message, path=path, remedy=OTHER_FOLDER) from error
            self.plan.write(path)
        else:
            self.plan.check_same(existing, path)

    def _has_written_all(self) -> bool:
        """Whether all readable sidecars, and at least one, are of this plan."""
        plans = set()
        for path in (self.directory / SHARDS).glob("*.tfrecord.json"):
            with contextlib.suppress(RecordError):
                plans.add(Sidecar.read(path).plan_sha256)
        return plans == {self.plan.sha256}

    def _remove_leftovers(self) -> None:
        """Removes temporary files of killed writers.

        A worker of an earlier command that still runs fails without its temporary file, which is
        right: the store is being written again, or complete.
        """
        ours = [
            self.directory.glob(f".{name}.*.tmp") for name in (PLAN, *_SEALED, PIECES, COMPLETE)
        ]
        for leftovers in [*ours, (self.directory / SHARDS).glob(f".{self.plan.kind}-*.tmp")]:
            for leftover in leftovers:
                with writing(leftover):
                    leftover.unlink(missing_ok=True)


def _payloads(records: Iterable[Record], kind: str, path: Path) -> Iterator[bytes]:
    """Serialises records; raises an OSError of their source as an error of its own."""
    record_type = RECORD_TYPES[kind]
    try:
        for record in records:
            if not isinstance(record, record_type):
                raise RecordError(
                    f"a {type(record).__name__} is not for a store of {kind}",
                    path=path,
                    utterance_id=record.utterance_id,
                    remedy=f"give objects of {record_type.__name__}",
                )
            yield record.to_example_bytes()
    except OSError as error:
        raise RecordError(
            f"cannot make the records of it: {error}",
            path=path,
            remedy="mend that and run the command again: it goes on with this shard",
        ) from error


def _read_back(
    temporary: Path, path: Path, plan: Plan, number: int, rejections: list[Rejection]
) -> Sidecar:
    """Verifies a shard under its temporary name; errors give its final name."""
    try:
        return inspect_shard(temporary, plan, number, rejections)
    except RecordError as error:
        raise RecordError(
            error.message, path=path, utterance_id=error.utterance_id, remedy=error.remedy
        ) from error


def _shard_row(path: Path, sidecar: Sidecar) -> dict[str, Any]:
    """The row of a shard in the completion marker."""
    return {
        "name": path.name,
        "sha256": sidecar.sha256,
        "size_bytes": sidecar.size_bytes,
        "records": len(sidecar.entries),
        "rejected": len(sidecar.rejections),
        "sidecar_sha256": _sha256(sidecar_path(path)),
    }


def _sha256(path: Path) -> str:
    with reading(path):
        return sha256(path)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON Lines, atomically."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
