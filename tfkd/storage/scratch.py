"""Temporary folders that are removed even if their process is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfkd.errors import RecordError
from tfkd.storage.locks import LOCK, locked

_PREFIX = "tfkd-scratch-"
_CONTENT = "content"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields an empty folder that is removed when the block ends.

    First removes the folders of killed processes, which no longer hold their locks.

    Raises:
      RecordError: if the folder cannot be made.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    with contextlib.ExitStack() as held:
        try:
            outer = Path(tempfile.mkdtemp(prefix=_PREFIX))
        except OSError as error:
            raise RecordError(
                f"cannot make a temporary folder: {error.strerror}",
                remedy="set TMPDIR to a folder with space that can be written",
            ) from error
        held.callback(shutil.rmtree, outer, ignore_errors=True)
        held.enter_context(locked(outer))
        content = outer / _CONTENT
        content.mkdir()
        yield content


def _remove_abandoned(parent: Path) -> None:
    for outer in parent.glob(f"{_PREFIX}*"):
        # Temporary folders are shared: touch only those that this module made for this user.
        with contextlib.suppress(OSError, RecordError):  # Its process is alive, or has just ended.
            names = sorted(each.name for each in outer.iterdir())
            if names == [LOCK, _CONTENT] and (outer / _CONTENT).stat().st_uid == os.getuid():
                with locked(outer):
                    shutil.rmtree(outer, ignore_errors=True)
