"""Atomic writes, hashes and safe paths: the only module that renames or hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tfkd.errors import ManifestError, RecordError

REDO = "run the command that wrote it again: it redoes only what does not verify"


def sync(path: Path) -> None:
    """Makes the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Yields a binary file that becomes `path` whole, or not at all.

    The temporary file lies in the same folder, is flushed and fsynced before the rename, and the
    folder is fsynced after it.

    Raises:
      RecordError: if the file cannot be written (full disk, permissions); `path` is unchanged.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise RecordError(f"cannot write: {error.strerror or error}", path=path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Refuses a file that cannot be written, before hours of work for it.

    Raises:
      RecordError: if its folder cannot be made, or nothing can be written there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise RecordError(f"cannot write: {error.strerror or error}", path=path) from error
    if path.is_dir():
        raise RecordError("cannot write: it is a folder", path=path)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yields a new folder that replaces `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        for each in [*temporary.rglob("*"), temporary]:
            sync(each)
        # Two renames: a reader sees the old folder, none for an instant, or the new one.
        old = temporary.with_suffix(".old")
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(directory: Path) -> None:
    """Removes what killed `atomic_write` and `atomic_directory` left in a folder.

    A folder that was moved away for a new one that never came is put back. Nobody else may write
    into `directory` meanwhile.
    """
    for old in directory.glob(".*.old"):
        target = directory / old.name[1:].rsplit(".", 2)[0]
        if target.exists():
            shutil.rmtree(old)
        else:
            old.replace(target)
    for temporary in directory.glob(".*.tmp"):
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink()


def sha256(path: str | Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hex digest of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_tree(path: str | Path) -> str:
    """Hex digest of a file, or of the names and contents of every file below a folder."""
    path = Path(path)
    return sha256(path) if path.is_file() else sha256_of_files(path, path.rglob("*"))


def sha256_of_files(directory: Path, paths: Iterable[Path]) -> str:
    """Hex digest of the names and contents of those of the paths below a folder that are files."""
    files = sorted(path for path in paths if path.is_file())
    lines = (f"{sha256(file)}  {file.relative_to(directory).as_posix()}" for file in files)
    return sha256_of_text("\n".join(lines))


def contained_path(directory: str | Path, name: str) -> Path:
    """Joins `name` to `directory`, for names that come from a file.

    Relative names must not leave `directory`; absolute names are taken as they are, because
    manifests of existing corpora use them.

    Raises:
      ManifestError: if a relative name climbs out of `directory` or holds a NUL.
    """
    if "\0" in name:
        raise ManifestError("a path holds a NUL character", path=directory)
    if os.path.isabs(name):
        return Path(name)
    joined = Path(os.path.normpath(Path(directory) / name))
    if not joined.is_relative_to(os.path.normpath(directory)):
        raise ManifestError(
            f"path {name!r} leaves the folder", path=directory, remedy="use an absolute path"
        )
    return joined


def directory_bytes(path: str | Path) -> int:
    """Size of a file, or of every file below a folder."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a RecordError that names `path`."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"cannot read: {error.strerror or error}", path=path, remedy=REDO
        ) from error
