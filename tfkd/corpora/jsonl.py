"""Manifests in JSON: one object a line as NeMo has them, arrays, and SpeechBrain's objects."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tfkd.corpora.fields import AUDIO, FieldCount, known_name, utterance_of
from tfkd.corpora.lhotse import is_lhotse, simple_fields
from tfkd.corpora.lines import Line, collect, content_of, lines_of
from tfkd.corpora.utterances import Corpus, Utterance
from tfkd.errors import ManifestError, advising
from tfkd.storage.json_files import parse_json, unique_fields

# Larger files are read by lines alone.
_MAX_DOCUMENT_BYTES = 1 << 28
_SPACE = re.compile(r"\s+")
_CUTS = ("sources", "supervisions", "tracks")
_DATA_ROOT = ("{data_root}", "$data_root")


def read_jsonl(path: Path) -> Corpus:
    """Reads a manifest; see `tfkd.corpora.read_corpus`, also for what is raised."""
    if path.is_dir():
        path = path / "metadata.jsonl"  # Hugging Face's folders of audio.
        if not path.is_file():
            raise ManifestError(
                "a folder is no manifest", path=path.parent, remedy="name its .jsonl file"
            )
    return read_rows(path, _documents(path) or lines_of(path), _object)


def read_rows(
    path: Path, lines: Iterable[Line], fields_of: Callable[[Line], dict[str, Any]]
) -> Corpus:
    """Reads lines that each describe an utterance, and logs the fields that were ignored.

    Args:
      fields_of: reads the names and values of a line; raises ManifestError if it cannot.
    """
    count = FieldCount()

    def parse(line: Line) -> Utterance:
        return utterance_of(_plain(fields_of(line)), path.parent, count)

    corpus = collect(lines, parse, root=path.parent)
    count.warn(path)
    return corpus


@advising("write one JSON object a line, each of its names once")
def _object(line: Line) -> dict[str, Any]:
    try:
        fields = parse_json(line.text(), object_pairs_hook=unique_fields)
    except ValueError as error:
        raise ManifestError(str(error)) from error
    if not isinstance(fields, dict):
        raise ManifestError("not a JSON object")
    return fields


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the row without the nesting that is peculiar to one toolkit."""
    if is_lhotse(fields):
        return simple_fields(fields)
    wav = fields.get("wav")
    if isinstance(wav, str):
        for root in _DATA_ROOT:
            wav = wav.removeprefix(f"{root}/")
        return {**fields, "wav": wav}
    return fields


def _documents(path: Path) -> list[Line] | None:
    """Returns the rows of a file of JSON values that span lines; None for one object a line.

    Raises:
      ManifestError: if a name is given twice in an object that spans lines.
    """
    first = None
    with contextlib.suppress(ManifestError):  # A line that is too long for a row may hold them all.
        first = next(lines_of(path), None)
        if first is None or _is_row(first):
            return None
    content = content_of(path, _MAX_DOCUMENT_BYTES)
    if content is None:
        return None
    try:
        values = list(_values(content.decode("utf-8-sig")))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None  # Lines tell better where it is wrong.
    except ValueError as error:
        if first is not None and _is_json(first):
            return None
        raise ManifestError(
            str(error), path=path, remedy="leave one of them out, or rename it"
        ) from error
    rows = [row for value in values for row in _rows(value)]
    if not all(isinstance(row, dict) for row in rows):
        return None
    return [Line(path, n, json.dumps(row).encode()) for n, row in enumerate(rows, 1)]


def _is_row(line: Line) -> bool:
    try:
        fields = _object(line)
    except ManifestError:
        return False
    return not _is_speechbrain(fields) and _wrapped(fields) is None


def _is_json(line: Line) -> bool:
    try:
        parse_json(line.content)
    except ValueError:
        return False
    return True


def _values(text: str) -> Iterator[Any]:
    """Yields the JSON values that follow each other in a text."""
    decoder = json.JSONDecoder(object_pairs_hook=unique_fields)
    position = _end_of_space(text, 0)
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        yield value
        position = _end_of_space(text, position)


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _rows(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if _is_speechbrain(value):
        return [{"ID": key, **fields} for key, fields in value.items()]
    rows = _wrapped(value)
    return [value] if rows is None else rows


def _wrapped(value: Any) -> list[Any] | None:
    """The rows of an object that holds them under one name, such as {"data": [...]}."""
    if not isinstance(value, dict) or set(map(known_name, value)) & {*AUDIO, *_CUTS}:
        return None
    lists = [each for each in value.values() if isinstance(each, list)]
    rows = lists[0] if len(lists) == 1 else []
    is_rows = rows and all(
        isinstance(row, dict) and set(map(known_name, row)) & {*AUDIO} for row in rows
    )
    return rows if is_rows else None


def _is_speechbrain(value: Any) -> bool:
    """Whether a JSON value maps ids of utterances to objects, as SpeechBrain writes them."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(fields, dict) for fields in value.values())
        and any(name in fields for fields in value.values() for name in AUDIO)
    )
