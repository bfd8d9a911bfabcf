"""Compares stores byte by byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tfkd.records import open_store
from tfkd.storage.files import sha256


def digests(directory: Path) -> dict[str, str]:
    """Name -> sha256 of every file of a store, leftovers included."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): sha256(path) for path in files}


def assert_same_store(directory: Path, unbroken: Path, data: Path) -> None:
    """Nothing is lost, nothing is there twice, and every file is that of an unbroken run."""
    store, source = open_store(directory), open_store(data)
    store.verify(deep=True)
    found = Counter(record.utterance_id for record in store.records())
    found.update(rejection.utterance_id for rejection in store.rejections)
    wanted = [row["utterance_id"] for row in source.index]
    wanted += [rejection.utterance_id for rejection in source.rejections]
    assert found == Counter(wanted)
    assert set(found.values()) == {1}
    assert digests(directory) == digests(unbroken)
