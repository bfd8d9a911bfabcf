"""Remembers which files this user's tfkd has exported.

A digest inside a file shows that the file is undamaged, but not its origin: anybody can compute
one. So the digests of known files are kept in the user's cache, which files from elsewhere cannot
change.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CACHE = Path("tfkd", "exported_files")


def remember(digest: str) -> None:
    """Records the sha256 of an export; does nothing if the cache cannot be written."""
    with contextlib.suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / digest).touch()


def is_known(digest: str) -> bool:
    """Whether `remember` has recorded this sha256 on this machine."""
    try:
        return (_folder() / digest).is_file()
    except (OSError, RuntimeError):
        return False


def _folder() -> Path:
    """Raises RuntimeError if the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / _CACHE
