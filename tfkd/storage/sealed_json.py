"""Sealed JSON: each file holds the sha256 of its own content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfkd.errors import RecordError
from tfkd.storage.files import REDO, reading, sha256_of_text, write_json

_SEAL = "seal"


def seal_of(value: dict[str, Any]) -> str:
    """sha256 of `value` as canonical JSON."""
    return sha256_of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Writes `value` as JSON with its own sha256, atomically; RecordError if it cannot."""
    write_json(path, value | {_SEAL: seal_of(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads what `write_sealed` wrote; RecordError if the file is missing or was changed."""
    with reading(path):
        data = path.read_bytes()
    try:
        value = json.loads(data)
        is_sealed = isinstance(value, dict) and value.pop(_SEAL, None) == seal_of(value)
    except (ValueError, RecursionError) as error:  # The latter: a thousand brackets in each other.
        raise RecordError("is not JSON", path=path, remedy=REDO) from error
    if not is_sealed:
        raise RecordError("was changed: its own sha256 disagrees", path=path, remedy=REDO)
    return value
