"""Reads tables whose first line names the columns, as SpeechBrain and Hugging Face write them."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections import Counter
from pathlib import Path

from tfkd.corpora.fields import AUDIO, known_name
from tfkd.corpora.jsonl import read_rows
from tfkd.corpora.lines import Line, content_of, lines_of
from tfkd.corpora.utterances import Corpus
from tfkd.errors import ManifestError
from tfkd.storage.json_files import parse_json

_MAX_BYTES = 1 << 30
_DELIMITERS = "\t,;|"


def read_table(path: Path) -> Corpus:
    """Reads a table; see `tfkd.corpora.read_corpus`, also for what is raised.

    An empty cell is one that is absent.
    """
    if path.is_dir():
        path = path / "metadata.csv"  # Hugging Face's folders of audio.
    if not has_columns(path):
        _check_encoding(path)
        raise ManifestError(
            f"the first line names no column of audio: {', '.join(_columns(path)) or 'nothing'}",
            path=path,
            remedy=f"call it one of {', '.join(AUDIO)}",
        )
    header, rows = _rows(path)
    return read_rows(path, rows, functools.partial(_fields, header))


def has_columns(path: Path, *names: str) -> bool:
    """Whether the first line names these columns; by default, one of audio."""
    columns = set(map(known_name, _columns(path)))
    return columns.issuperset(names) if names else not columns.isdisjoint(AUDIO)


def _check_encoding(path: Path) -> None:
    """Raises ManifestError if the first line is not UTF-8, as in "Unicode text" of spreadsheets."""
    first = next(lines_of(path), None)
    try:
        if first is not None:
            first.text()
    except ManifestError as error:
        raise ManifestError(error.message, path=path, remedy=error.remedy) from error


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


def _rows(path: Path) -> tuple[list[str], list[Line]]:
    """Returns the header, and a line for each row, which holds the cells as a JSON array."""
    content = content_of(path, _MAX_BYTES)
    if content is None:
        raise ManifestError(f"is larger than {_MAX_BYTES} bytes", path=path, remedy="cut it")
    text = content.decode("utf-8-sig", errors="surrogateescape")
    # Not str.splitlines: transcripts may hold other separators of lines.
    lines = io.StringIO(text, newline="")
    first = next(filter(str.strip, lines), "")
    lines.seek(0)
    delimiter = _delimiter(first.rstrip("\r\n"))
    # Transcripts hold single quotes of both kinds; only CSV gives them a meaning.
    if delimiter in "\t|":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        # Otherwise a quote that is not closed takes the lines after it into its cell.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows, end = [], 0
    try:
        header = next((cells for cells in reader if "".join(cells).strip()), [])
        end = reader.line_num
        for cells in reader:
            if cells:
                rows.append(Line(path, reader.line_num, json.dumps(cells).encode()))
            end = reader.line_num
    except csv.Error as error:
        raise ManifestError(
            f"line {end + 1}: {error}",
            path=path,
            remedy="close its quotes, and double those within a cell",
        ) from error
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise ManifestError(
            f"two columns are called {twice[0]!r}", path=path, remedy="rename or remove one"
        )
    return header, rows


def _fields(header: list[str], line: Line) -> dict[str, str]:
    cells = parse_json(line.content)
    if len(cells) != len(header):
        raise ManifestError(
            f"{len(cells)} cells where the first line has {len(header)}",
            remedy="quote cells that hold what parts them",
        )
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
