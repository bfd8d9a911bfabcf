"""Maps the fields of a record to the features of a tf.train.Example.

Each field declares its storage. A storage converts a column, which has one value for each owner of
the field (the utterance, or each of its hypotheses), to the flat list of a tf.train.Feature, and
back.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from tfkd.errors import RecordError
from tfkd.records.tf_example import Values

INT64_MAX = 2**63 - 1

_STORAGE, _IS_LATER = "storage", "is_later"

# Metadata of a field that was added later. Records without a value have no such feature, so they
# keep the bytes that they had before the field existed.
LATER = {_IS_LATER: True}

Item = TypeVar("Item")


class Storage(ABC):
    """Converts one field to the list of a tf.train.Feature, and back."""

    list_type: str

    @abstractmethod
    def store(self, column: Iterable[Any]) -> list[Any]:
        """Converts a column to the values of the feature; None and () add no value."""

    @abstractmethod
    def load(self, values: list[Any], num_tokens: Sequence[int]) -> list[Any]:
        """Converts the values of the feature to the column; `num_tokens` has one entry an owner."""

    @abstractmethod
    def num_values(self, num_tokens: Sequence[int]) -> int:
        """The number of values of the feature if the field is known."""


@dataclasses.dataclass(frozen=True)
class _PerOwner(Storage):
    list_type: str
    to_stored: Callable[[Any], Any]
    from_stored: Callable[[Any], Any]

    def store(self, column: Iterable[Any]) -> list[Any]:
        return [self.to_stored(value) for value in column if value is not None]

    def load(self, values: list[Any], num_tokens: Sequence[int]) -> list[Any]:
        return list(map(self.from_stored, values))

    def num_values(self, num_tokens: Sequence[int]) -> int:
        return len(num_tokens)


@dataclasses.dataclass(frozen=True)
class _PerToken(Storage):
    list_type: str
    to_stored: Callable[[Any], Any]

    def store(self, column: Iterable[Any]) -> list[Any]:
        return list(map(self.to_stored, itertools.chain.from_iterable(column)))

    def load(self, values: list[Any], num_tokens: Sequence[int]) -> list[Any]:
        return _split(values, num_tokens)

    def num_values(self, num_tokens: Sequence[int]) -> int:
        return sum(num_tokens)


@dataclasses.dataclass(frozen=True)
class _Packed(Storage):
    """Stores [num_tokens, M] numbers of two bytes, little-endian; `code` is that of `struct`."""

    code: str
    list_type: str = "bytes"

    def store(self, column: Iterable[Any]) -> list[Any]:
        return list(map(self._packed, column))

    def load(self, values: list[Any], num_tokens: Sequence[int]) -> list[Any]:
        return list(map(self._unpacked, values, num_tokens))

    def num_values(self, num_tokens: Sequence[int]) -> int:
        return len(num_tokens)

    def _packed(self, rows: Sequence[Sequence[Any]]) -> bytes:
        flat = list(itertools.chain.from_iterable(rows))
        return struct.pack(f"<{len(flat)}{self.code}", *flat)

    def _unpacked(self, data: bytes, num_rows: int) -> tuple[tuple[Any, ...], ...]:
        width = len(data) // 2 // max(num_rows, 1)
        if len(data) != 2 * width * num_rows:
            raise RecordError(f"{len(data)} bytes of posteriors do not fit {num_rows} tokens")
        flat = struct.unpack(f"<{width * num_rows}{self.code}", data)
        return tuple(_split(flat, [width] * num_rows))


# Metadata of the fields of a record: one value each,
BYTES = {_STORAGE: _PerOwner("bytes", bytes, bytes)}
TEXT = {_STORAGE: _PerOwner("bytes", str.encode, bytes.decode)}
INTEGER = {_STORAGE: _PerOwner("int64", int, int)}
NUMBER = {_STORAGE: _PerOwner("float", float, float)}
# one value for each token,
TOKEN_INTEGERS = {_STORAGE: _PerToken("int64", int)}
TOKEN_NUMBERS = {_STORAGE: _PerToken("float", float)}
# and M values for each token.
TOP_UINT16 = {_STORAGE: _Packed("H")}
TOP_FLOAT16 = {_STORAGE: _Packed("e")}


class Layout:
    """The features of a record class, derived from the storages of its fields."""

    def __init__(self, record_type: type, prefix: str = "") -> None:
        """Reads the fields of the dataclass `record_type`; `prefix` begins each feature's name."""
        fields = dataclasses.fields(record_type)
        self._record_type = record_type
        self._storages: dict[str, Storage] = {f.name: f.metadata[_STORAGE] for f in fields}
        self._names = {f.name: prefix + f.name for f in fields}
        later = {f.name for f in fields if f.metadata.get(_IS_LATER)}
        self.optional = tuple(f.name for f in fields if f.default is not dataclasses.MISSING)
        self.features = self._list_types(self._names.keys() - later)
        self.later_features = self._list_types(later)

    def _list_types(self, fields: Iterable[str]) -> dict[str, str]:
        wanted = set(fields)
        return {
            name: self._storages[field].list_type
            for field, name in self._names.items()
            if field in wanted
        }

    def values(self, records: Sequence[Any]) -> Values:
        """Converts records to lists of features; later features without a value are left out."""
        columns = {name: [getattr(each, name) for each in records] for name in self._storages}
        return {
            name: self._storages[field].store(columns[field])
            for field, name in self._names.items()
            if name in self.features or any(map(is_known, columns[field]))
        }

    def records(self, values: Values, num_tokens: Sequence[int]) -> Iterator[Any]:
        """Converts lists of features to records; check them with `length_faults` before."""
        columns = {
            field: self._column(field, values[name], num_tokens)
            for field, name in self._names.items()
            if values.get(name)
        }
        for number in range(len(num_tokens)):
            yield self._record_type(**{field: each[number] for field, each in columns.items()})

    def _column(self, field: str, values: list[Any], num_tokens: Sequence[int]) -> list[Any]:
        try:
            return self._storages[field].load(values, num_tokens)
        except UnicodeDecodeError as error:
            raise RecordError(f"feature {self._names[field]} is not UTF-8") from error

    def length_faults(self, values: Values, num_tokens: Sequence[int]) -> Iterator[str]:
        """Yields a message for each feature with more or fewer values than `num_tokens` needs."""
        for field, name in self._names.items():
            if name not in values:
                continue
            found, wanted = len(values[name]), self._storages[field].num_values(num_tokens)
            may_be_empty = field in self.optional and name in self.features
            if found != wanted and not (may_be_empty and found == 0):
                yield f"feature {name} holds {found} values, not {wanted}"


def is_known(value: Any) -> bool:
    """Whether the value of an optional field is given."""
    return value is not None and not (isinstance(value, tuple) and not value)


def encoding_faults(text: str | None, name: str) -> Iterator[str]:
    """Yields a message if a text cannot be stored as UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        yield f"its {name} holds characters that UTF-8 cannot express"


def refuse(faults: Iterator[str], utterance_id: str) -> None:
    """Raises a RecordError with the first of the faults, if there is one."""
    fault = next(faults, None)
    if fault is not None:
        # An id that cannot be encoded could not be printed either.
        raise RecordError(fault, utterance_id=utterance_id.encode(errors="replace").decode())


def _split(flat: Sequence[Item], lengths: Iterable[int]) -> list[tuple[Item, ...]]:
    parts, start = [], 0
    for length in lengths:
        parts.append(tuple(flat[start : start + length]))
        start += length
    return parts
