"""Sealed JSON: files that contain the sha256 of their own content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfkd.errors import RecordError
from tfkd.storage.files import REDO, sha256_of_text, write_json
from tfkd.storage.json_files import checked_object, read_json_object, refusing

_SEAL = "seal"


def seal_of(value: dict[str, Any]) -> str:
    """Computes the sha256 of `value` as canonical JSON."""
    return sha256_of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Writes `value` as JSON with its own sha256, atomically.

    Raises:
      RecordError: if it cannot be written.
    """
    write_json(path, value | {_SEAL: seal_of(value)})


def read_sealed(path: Path, fields: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Reads what `write_sealed` wrote.

    Args:
      path: the file.
      fields: required names with the types of their values.
    Raises:
      RecordError: if the file is missing, was changed, or lacks a field.
    """
    value = read_json_object(path, remedy=REDO)
    if value.pop(_SEAL, None) != seal_of(value):
        raise RecordError("was changed: its own sha256 disagrees", path=path, remedy=REDO)
    # Check the fields all the same: a file may have been changed and sealed again.
    with refusing(path, REDO):
        return checked_object(value, fields or {})
