"""Which files this user's tfkd wrote itself, or has tried in a process of its own.

A digest inside a file proves that it is whole, not where it is from: anybody can compute one. So
the digests of known files lie apart from them, in the user's cache, where no file that is copied
here can put one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CACHE = Path("tfkd", "known_files")


def remember(digest: str) -> None:
    """Notes the sha256 of a file; a machine without a place for caches forgets it."""
    with contextlib.suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / digest).touch()


def is_known(digest: str) -> bool:
    """Whether `remember` was told of this sha256 on this machine."""
    try:
        return (_folder() / digest).is_file()
    except (OSError, RuntimeError):
        return False


def _folder() -> Path:
    """Raises RuntimeError if the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / _CACHE
