"""Finds files in a folder and in those inside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tfkd.errors import ManifestError
from tfkd.storage.markers import PLAN, SHARDS


def files_in(
    tree: Path, suffixes: str | tuple[str, ...], without: Path | None = None
) -> Iterator[Path]:
    """Finds the files whose names end in one of some suffixes, whatever their case.

    Linked folders are searched, too; files and folders whose names begin with a dot are left out,
    and so are stores, which tfkd wrote.

    Args:
      without: a folder that is left out.
    Raises:
      ManifestError: if a folder cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise ManifestError(
            f"cannot be read: {error.strerror}",
            path=error.filename,
            remedy="check its permissions",
        ) from error

    seen = {os.path.realpath(tree)}
    if without is not None:
        seen.add(os.path.realpath(without))
    for folder, folders, names in os.walk(tree, onerror=refuse, followlinks=True):
        if PLAN in names and SHARDS in folders and Path(folder) != tree:
            folders.clear()
            continue
        shown = (name for name in folders if not name.startswith("."))
        places = {os.path.realpath(os.path.join(folder, name)): name for name in shown}
        # A link may lead to where the walk has been, or back to where it lies.
        folders[:] = [name for place, name in places.items() if place not in seen]
        seen |= places.keys()
        for name in names:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(folder, name)
