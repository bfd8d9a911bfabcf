"""Reads tables whose first line names the columns, as SpeechBrain and Hugging Face write them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

from tfkd.corpora.fields import AUDIO, known_name
from tfkd.corpora.jsonl import read_rows
from tfkd.corpora.lines import Line, content_of, lines_of
from tfkd.corpora.utterances import Corpus
from tfkd.errors import ManifestError

_MAX_BYTES = 1 << 30
_DELIMITERS = "\t,;|"


def read_table(path: Path) -> Corpus:
    """Reads a table; see `tfkd.corpora.read_corpus`, also for what is raised.

    An empty cell is one that is absent.
    """
    if path.is_dir():
        path = path / "metadata.csv"  # Hugging Face's folders of audio.
    if not has_columns(path):
        raise ManifestError(
            f"the first line names no column of audio: {', '.join(_columns(path)) or 'nothing'}",
            path=path,
            remedy=f"call it one of {', '.join(AUDIO)}",
        )
    return read_rows(path, _rows(path))


def has_columns(path: Path, besides: str | None = None) -> bool:
    """Whether the first line names a column of audio and at least one other."""
    return bool(set(map(known_name, _columns(path))) & (set(AUDIO) - {besides}))


def _columns(path: Path) -> list[str]:
    first = next(lines_of(path), None)
    if first is None:
        return []
    text = first.content.decode("utf-8-sig", errors="replace")
    return _cells(text, _delimiter(text))


def _delimiter(first: str) -> str:
    """What parts the columns that a first line names: the first that gives one of audio."""
    for delimiter in _DELIMITERS:
        if set(map(known_name, _cells(first, delimiter))) & {*AUDIO}:
            return delimiter
    return "\t" if "\t" in first else ","


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _rows(path: Path) -> list[Line]:
    content = content_of(path, _MAX_BYTES)
    if content is None:
        raise ManifestError(f"is larger than {_MAX_BYTES} bytes", path=path, remedy="cut it")
    text = content.decode("utf-8-sig", errors="surrogateescape")
    delimiter = _delimiter(text.partition("\n")[0].rstrip("\r"))
    # Transcripts hold single quotes of both kinds; only CSV gives them a meaning.
    lines = text.splitlines(keepends=True)
    if delimiter in "\t|":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, [])
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise ManifestError(f"two columns are called {twice[0]!r}", path=path)
    rows = []
    try:
        for row in reader:
            if row:
                rows.append(Line(path, reader.line_num, _json(header, row)))
    except csv.Error as error:
        raise ManifestError(f"line {reader.line_num}: {error}", path=path) from error
    return rows


def _json(header: list[str], row: list[str]) -> bytes:
    """Writes the row as a JSON object, or as something else if cells are missing or left over."""
    if len(row) != len(header):
        return f"{len(row)} cells where the first line has {len(header)}".encode()
    return json.dumps(
        {key: cell for key, cell in zip(header, row, strict=True) if cell != ""}
    ).encode()
