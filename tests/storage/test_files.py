"""Files and folders are replaced as a whole; links, pipes and devices stay what they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tfkd.errors import RecordError
from tfkd.storage.files import atomic_directory, atomic_write, check_writable, write_text


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "out.jsonl", tmp_path / "out.jsonl"
    link.symlink_to(target)
    for text in ("first", "second"):
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    with pytest.raises(TypeError), atomic_write(link) as file:
        file.write("no bytes")
    assert target.read_text() == "second"
    assert [path.name for path in tmp_path.rglob("*.jsonl*")] == ["out.jsonl", "out.jsonl"]


def test_a_link_to_a_folder_stays_and_the_folder_is_replaced(tmp_path):
    target, link = tmp_path / "disk", tmp_path / "saved"
    target.mkdir()
    (target / "old").touch()
    link.symlink_to(target)
    with atomic_directory(link) as folder:
        (folder / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "saved"]


def test_a_named_pipe_is_written_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "text")
    assert pipe.is_fifo()
    reader.join(10)
    assert read == [b"text"]
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_without_a_name_is_written_directly():
    """The path is what /dev/stdout leads to where the output is a pipe."""
    reader, writer = os.pipe()
    path = Path(f"/proc/self/fd/{writer}")
    check_writable(path)
    write_text(path, "text")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"text"


def test_a_file_that_is_open_goes_on_where_it_stands(tmp_path):
    """As of `(echo before; tfkd ... --out /dev/stdout; echo after) > all.txt`."""
    path = tmp_path / "all.txt"
    with open(path, "wb", buffering=0) as file:
        file.write(b"before ")
        check_writable(f"/proc/self/fd/{file.fileno()}")
        write_text(f"/dev/fd/{file.fileno()}", "text ")
        file.write(b"after")
    assert path.read_text() == "before text after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_that_nobody_reads_is_left_to_the_command_line():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        write_text(f"/proc/self/fd/{writer}", "text")
    os.close(writer)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_gives_the_permissions(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "text")
        with atomic_directory(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_path_that_cannot_be_a_file_has_its_own_remedy(tmp_path):
    (tmp_path / "file").touch()
    for path, remedy in [
        (tmp_path, "cannot write: it is a folder .give the path of a file"),
        (tmp_path / "file" / "x", "a file is where its folder would be .give a path in a folder"),
    ]:
        for call in (check_writable, lambda path: write_text(path, "text")):
            with pytest.raises(RecordError, match=remedy):
                call(path)
