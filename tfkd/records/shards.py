"""Verifies a shard by reading every byte, and describes it in its sidecar file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfkd.corpora import Rejection
from tfkd.errors import RecordError
from tfkd.records.plan import Plan, printable
from tfkd.records.schema import RECORD_TYPES, PseudoLabelRecord, Record
from tfkd.records.tfrecord import read_records
from tfkd.storage.files import REDO, reading, sha256
from tfkd.storage.json_files import checked_object, dataclass_of, refusing
from tfkd.storage.sealed_json import read_sealed, write_sealed

# The fields of every row of the index, and their types.
INDEX_ROW = {"utterance_id": str, "shard": str, "num_samples": int, "duration_seconds": float}


@dataclass(frozen=True)
class Sidecar:
    """The description of a verified shard.

    Attributes:
      plan_sha256: identity of the store's plan.
      sha256, size_bytes: of the shard file.
      entries: the index rows of the records, in the order of the shard.
      rejections: the planned utterances that are not in the shard, in the plan's order.
    """

    plan_sha256: str
    sha256: str
    size_bytes: int
    entries: tuple[dict[str, Any], ...]
    rejections: tuple[Rejection, ...]

    def write(self, path: Path) -> None:
        """Writes it as sealed JSON; raises RecordError if it cannot be written."""
        # Not asdict, which would copy every row of `entries`.
        write_sealed(path, vars(self) | {"rejections": [asdict(each) for each in self.rejections]})

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """Reads what `write` wrote; raises RecordError if it is missing or was changed."""
        value = read_sealed(path, {"entries": list, "rejections": list})
        with refusing(path, REDO):
            value["entries"] = tuple(checked_object(row, INDEX_ROW) for row in value["entries"])
            value["rejections"] = tuple(dataclass_of(Rejection, r) for r in value["rejections"])
            return dataclass_of(cls, value)


def sidecar_path(shard: Path) -> Path:
    """The path of a shard's sidecar."""
    return shard.with_name(shard.name + ".json")


def shard_ids(shard: Path) -> tuple[str, ...]:
    """Reads the ids of a finished shard's records, in order, from its sidecar."""
    return tuple(entry["utterance_id"] for entry in Sidecar.read(sidecar_path(shard)).entries)


def clean_rejection(rejection: Rejection) -> Rejection:
    """Escapes what UTF-8 cannot express in a rejection."""
    return Rejection(**{name: printable(value) for name, value in asdict(rejection).items()})


def inspect_shard(
    path: Path, plan: Plan, number: int, rejections: Iterable[Rejection] = ()
) -> Sidecar:
    """Verifies framing, checksums, schema, ids and their order in a shard.

    Args:
      path: the file, under its final or a temporary name.
      plan: of the store.
      number: of the shard.
      rejections: the planned utterances that must not be in the shard.
    Returns:
      The sidecar that describes the shard.
    Raises:
      RecordError: if the shard is damaged, or differs from the plan.
    """
    planned = plan.shards[number]
    rejected = {each.utterance_id: each for each in map(clean_rejection, rejections)}
    for utterance_id in rejected.keys() - set(planned):
        raise RecordError(
            f"is rejected in shard {number}, but is not planned there",
            path=path,
            utterance_id=utterance_id,
            remedy="reject it in its own shard; give StoreWriter.complete what was never planned",
        )
    expected = [utterance_id for utterance_id in planned if utterance_id not in rejected]
    entries = tuple(
        index_row(record, plan.shard_name(number))
        for record in ordered_records(path, plan.kind, expected)
    )
    with reading(path):
        size_bytes, digest = path.stat().st_size, sha256(path)
    kept = tuple(rejected[utterance_id] for utterance_id in planned if utterance_id in rejected)
    return Sidecar(plan.sha256, digest, size_bytes, entries, kept)


def ordered_records(path: Path, kind: str, expected_ids: Iterable[str]) -> Iterator[Record]:
    """Yields the records of a shard, which must be exactly those of `expected_ids`, in order.

    Raises:
      RecordError: if the file is damaged, or a record is missing, superfluous or of another kind.
    """
    wanted = iter(expected_ids)
    for payload in read_records(path):
        record = record_of(payload, kind, path)
        expected = next(wanted, None)
        if record.utterance_id != expected:
            after = f"utterance {expected}" if expected is not None else "the end of the shard"
            raise RecordError(
                f"is found where {after} was planned",
                path=path,
                utterance_id=record.utterance_id,
                remedy=REDO,
            )
        yield record
    missing = next(wanted, None)
    if missing is not None:
        raise RecordError(
            "is missing at the end of the shard", path=path, utterance_id=missing, remedy=REDO
        )


def record_of(payload: bytes, kind: str, path: Path) -> Record:
    """Parses a record of the shard at `path`.

    Raises:
      RecordError: if it is damaged or of another kind.
    """
    try:
        return RECORD_TYPES[kind].from_example_bytes(payload)
    except RecordError as error:
        raise RecordError(
            error.message, path=path, utterance_id=error.utterance_id, remedy=error.remedy
        ) from error


def index_row(record: Record, shard_name: str) -> dict[str, Any]:
    """Makes the index row of a record: length, reference, and the best hypothesis.

    Keys: utterance_id, shard, num_samples, duration_seconds, text (None without a reference), and
    for pseudo labels hypothesis and score of the best one.
    """
    utterance = record.utterance
    row: dict[str, Any] = {
        "utterance_id": utterance.utterance_id,
        "shard": shard_name,
        "num_samples": utterance.num_samples,
        "duration_seconds": utterance.num_samples / utterance.sample_rate_hz,
        "text": utterance.text,
    }
    if isinstance(record, PseudoLabelRecord):
        row |= {"hypothesis": record.hypotheses[0].text, "score": record.hypotheses[0].score}
    return row
