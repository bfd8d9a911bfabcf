"""Atomic writes, hashes and safe paths; no other module renames or hashes files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tfkd.errors import ManifestError, RecordError

# Matches what `_temporary` puts between prefix and suffix.
_RANDOM = "????????"
REDO = "run the command that wrote it again: it repairs what is damaged or missing"
PERMISSIONS = "check the permissions there"
_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


def sync(path: Path) -> None:
    """Makes the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Yields a binary file that replaces `path` atomically when the block ends without an error.

    The temporary file is in the same folder; it is fsynced before the rename, and the folder after
    it. A symlink stays, and the file that it names is replaced. A device or pipe, and what this
    process has open, such as /dev/stdout, stays, too: it is written directly.

    Raises:
      RecordError: if the file cannot be written (full disk, permissions); `path` is unchanged.
      BrokenPipeError: if `path` is a pipe whose reader has closed it.
    """
    path = Path(path)
    with writing(path):
        target = replaceable(path)
        with _replacing(target) if target else _opened(path) as file:
            yield file


def _opened(path: Path) -> IO[bytes]:
    """Opens what is no file of its own; what is open already goes on where it stands."""
    descriptor = _descriptor_of(path)
    return open(path, "wb") if descriptor is None else os.fdopen(os.dup(descriptor), "wb")


def _descriptor_of(path: Path) -> int | None:
    """The number of an open file that a path stands for, such as 1 of /dev/stdout."""
    if str(path) in _STANDARD_STREAMS:
        return _STANDARD_STREAMS[str(path)]
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", str(path))
    return int(found[1]) if found else None


def replaceable(path: Path) -> Path | None:
    """Returns the file that `path` names.

    None for a device, a pipe, a socket, a folder, or what this process has open.
    """
    if _descriptor_of(path) is not None:
        return None
    target = Path(os.path.realpath(path))
    # /dev/stdout may lead to the name of a pipe, which is the path of nothing.
    return target if target.is_file() or not path.exists() else None


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yields a temporary file that replaces the regular file `path`, if there is one."""
    temporary = _temporary(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Makes the name of a temporary file or folder beside `path`.

    The modules of Python that make such files make them private; ours get the permissions that
    the user's umask gives, and become `path` with them.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(len(_RANDOM) // 2)}.tmp")


def check_writable(path: str | Path) -> None:
    """Checks, before hours of work, that a file can be written.

    Raises:
      RecordError: if its folder cannot be made, or nothing can be written there.
    """
    path = Path(path)
    with writing(path):
        target = replaceable(path)
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yields a new folder that replaces `path` when the block ends without an error.

    A symlink stays, and the folder that it names is replaced.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
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


def remove_unfinished(directory: Path, names: Iterable[str]) -> None:
    """Removes temporary files that killed `atomic_write` and `atomic_directory` left in a folder.

    If a kill came between the two renames of `atomic_directory`, the old folder is put back. No
    other process may write into `directory` at the same time.

    Args:
      names: the files and folders that are written there; what is left of others is not touched.
    """
    for name in names:
        target = directory / name
        for old in directory.glob(f".{name}.{_RANDOM}.old"):
            if target.exists():
                shutil.rmtree(old)
            else:
                old.replace(target)
        for temporary in directory.glob(f".{name}.{_RANDOM}.tmp"):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink()


def sha256(path: str | Path) -> str:
    """Computes the hex digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # hashlib.file_digest is not in Python 3.10, which devices have.
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """Computes the hex digest of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_tree(path: str | Path) -> str:
    """Computes the hex digest of a file, or of names and contents of all files below a folder."""
    path = Path(path)
    return sha256(path) if path.is_file() else sha256_of_files(path, path.rglob("*"))


def sha256_of_files(directory: Path, paths: Iterable[Path]) -> str:
    """Computes the hex digest of the names and contents of the files among `paths`."""
    files = sorted(path for path in paths if path.is_file())
    lines = (f"{sha256(file)}  {file.relative_to(directory).as_posix()}" for file in files)
    return sha256_of_text("\n".join(lines))


def contained_path(directory: str | Path, name: str) -> Path:
    """Joins `name` to `directory`, for names that come from a file.

    Relative names must stay below `directory`. Absolute names are allowed, because manifests of
    existing corpora use them.

    Raises:
      ManifestError: if a relative name leaves `directory`, or a name holds a NUL.
    """
    if "\0" in name:
        raise ManifestError(
            f"path {name!r} holds a NUL character",
            path=directory,
            remedy="write the name without it",
        )
    if os.path.isabs(name):
        return Path(name)
    joined = Path(os.path.normpath(Path(directory) / name))
    if not joined.is_relative_to(os.path.normpath(directory)):
        raise ManifestError(
            f"path {name!r} leaves the folder", path=directory, remedy="use an absolute path"
        )
    return joined


def directory_bytes(path: str | Path) -> int:
    """Computes the size of a file, or of all files below a folder."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raises an OSError of the block as a RecordError that names `path`.

    The command line handles a pipe that nobody reads any longer.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except IsADirectoryError as error:
        raise RecordError(
            "cannot write: it is a folder", path=path, remedy="give the path of a file"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise RecordError(
            "cannot write: a file is where its folder would be",
            path=path,
            remedy="give a path in a folder",
        ) from error
    except OSError as error:
        raise RecordError(
            f"cannot write: {error.strerror or error}",
            path=path,
            remedy="check the space and the permissions there",
        ) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises an OSError of the block as a RecordError that names `path`."""
    try:
        yield
    except OSError as error:
        remedy = PERMISSIONS if isinstance(error, PermissionError) else REDO
        raise RecordError(
            f"cannot read: {error.strerror or error}", path=path, remedy=remedy
        ) from error
