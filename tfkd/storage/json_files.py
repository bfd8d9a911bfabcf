"""Parses JSON for all of tfkd, with errors that name the file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tfkd.errors import RecordError, TfkdError
from tfkd.storage.files import PERMISSIONS

T = TypeVar("T")

# The remedy for files that a rerun makes again.
DELETE = "delete it and run the command that wrote it again"


def parse_json(
    data: bytes | str,
    *,
    parse_constant: Callable[[str], Any] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Parses a JSON text.

    Args:
      data: UTF-8 bytes, or text.
      parse_constant: called with NaN, Infinity or -Infinity, which are not JSON; by default they
        become floats.
      object_pairs_hook: makes an object of its names and values; by default the last of two values
        of one name counts.
    Raises:
      ValueError: if it is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(data, parse_constant=parse_constant, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("is not JSON: nested too deeply") from error
    except json.JSONDecodeError as error:
        # The caller knows the line of a text of one line.
        is_line = "\n" not in error.doc.strip()
        reason = f"{error.msg}: column {error.pos + 1}" if is_line else error
        raise ValueError(f"is not JSON: {reason}") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of its names and values, for `object_pairs_hook`.

    Raises:
      ValueError: if a name is given twice, of which JSON would keep the last value.
    """
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"{key!r} is given twice")
        fields[key] = value
    return fields


def read_json_object(
    path: str | Path,
    fields: Mapping[str, type] | None = None,
    *,
    remedy: str = DELETE,
    error: type[TfkdError] = RecordError,
) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
      fields: required names with the types of their values; an int is also a float, and a bool is
        not a number.
      remedy: advice in the error.
      error: the class of the error.
    Raises:
      TfkdError: if the file cannot be read, is not JSON, or is not such an object.
    """
    with refusing(path, remedy, error):
        return checked_object(parse_json(Path(path).read_bytes()), fields or {})


def read_json_rows(
    path: str | Path, fields: Mapping[str, type] | None = None, *, remedy: str = DELETE
) -> list[dict[str, Any]]:
    """Reads a JSON array of objects; arguments and errors are those of `read_json_object`."""
    with refusing(path, remedy):
        value = parse_json(Path(path).read_bytes())
        if not isinstance(value, list):
            raise ValueError(f"holds {_kind_of(value)}, not an array")
        return [checked_object(row, fields or {}) for row in value]


def read_json_lines(
    path: str | Path, fields: Mapping[str, type] | None = None, *, remedy: str = DELETE
) -> Iterator[dict[str, Any]]:
    """Yields the objects of JSON Lines; arguments and errors are those of `read_json_object`."""
    return _read_lines(path, lambda row: checked_object(row, fields or {}), remedy)


def read_dataclass_lines(path: str | Path, kind: type[T], *, remedy: str = DELETE) -> Iterator[T]:
    """Yields the objects of JSON Lines as flat dataclasses; see `dataclass_of`.

    Raises:
      RecordError: if an object does not fit; it names the file and the line.
    """
    return _read_lines(path, lambda row: dataclass_of(kind, row), remedy)


def _read_lines(path: str | Path, build: Callable[[Any], T], remedy: str) -> Iterator[T]:
    with refusing(path, remedy), open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = build(parse_json(line))
            except ValueError as fault:
                raise ValueError(f"line {number} {fault}") from fault
            yield row


def dataclass_of(kind: type[T], value: Any) -> T:
    """Builds a flat dataclass from a JSON object.

    Raises:
      ValueError: if a field is missing, unknown, or of another type.

    >>> import dataclasses
    >>> @dataclasses.dataclass
    ... class Span:
    ...     start: float
    ...     name: str | None = None
    >>> dataclass_of(Span, {"start": 3})
    Span(start=3, name=None)
    >>> dataclass_of(Span, {"begin": 3})
    Traceback (most recent call last):
    ...
    ValueError: lacks start
    """
    hints, needed = _fields_of(typing.cast(Any, kind))
    row = checked_object(value, needed)
    for name, each in row.items():
        if name not in hints:
            raise ValueError(f"has an unknown field {name}")
        if not _is_of(each, hints[name]):
            raise ValueError(f"holds {_kind_of(each)} as {name}")
    return kind(**row)


@functools.cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the types of all fields of a dataclass, and of those without a default."""
    hints = typing.get_type_hints(kind)
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return hints, {name: hints[name] for name in needed}


@contextlib.contextmanager
def refusing(
    path: str | Path, remedy: str = DELETE, error: type[TfkdError] = RecordError
) -> Iterator[None]:
    """Raises an OSError or ValueError of the block as an `error` that names the file."""
    try:
        yield
    except PermissionError as fault:
        raise error(
            f"cannot read: {fault.strerror or fault}", path=path, remedy=PERMISSIONS
        ) from fault
    except OSError as fault:
        raise error(f"cannot read: {fault.strerror or fault}", path=path, remedy=remedy) from fault
    except ValueError as fault:
        raise error(str(fault), path=path, remedy=remedy) from fault


def checked_object(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `value` if it is an object with these fields of these types.

    Raises:
      ValueError: if it is not.
    """
    if not isinstance(value, dict):
        raise ValueError(f"holds {_kind_of(value)}, not an object")
    for name, kind in fields.items():
        if name not in value:
            raise ValueError(f"lacks {name}")
        if not _is_of(value[name], kind):
            raise ValueError(f"holds {_kind_of(value[name])} as {name}")
    return value


def _is_of(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, each) for each in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", type(None): "null"}
    return names.get(type(value), repr(value))
