"""Manifests of one JSON object a line, NeMo's among them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from tfkd.corpora.lines import Line, audio_path, check_span, collect, lines_of, parse_seconds
from tfkd.corpora.utterances import Corpus, Utterance
from tfkd.errors import ManifestError
from tfkd.storage.json_files import parse_json

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_jsonl(path: Path) -> Corpus:
    """Reads a manifest; see `tfkd.corpora.read_corpus`, also for what is raised."""
    if path.is_dir():
        raise ManifestError("a folder is no manifest", path=path, remedy="name its .jsonl file")
    return collect(lines_of(path), functools.partial(_jsonl_utterance, path.parent))


def _jsonl_utterance(directory: Path, line: Line) -> Utterance:
    try:
        fields = parse_json(line.text())
    except ValueError as error:
        raise ManifestError(str(error)) from error
    if not isinstance(fields, dict):
        raise ManifestError("not a JSON object")
    name = _string(fields, "audio", "audio_filepath")
    if name is None:
        raise ManifestError("no audio field", remedy="name the file in `audio`")
    utterance_id = _string(fields, "utterance_id", "id")
    start, end = _jsonl_span(fields)
    return Utterance(
        Path(name).stem if utterance_id is None else utterance_id,
        audio_path(directory, name),
        _text(fields, "text"),
        _text(fields, "speaker"),
        start,
        end,
    )


def _jsonl_span(fields: dict[str, Any]) -> tuple[float | None, float | None]:
    start, end = _seconds(fields, "start_seconds"), _seconds(fields, "end_seconds")
    offset, duration = _seconds(fields, "offset"), _seconds(fields, "duration_seconds", "duration")
    if start is not None and offset is not None:
        raise ManifestError("start_seconds and offset are both given")
    start = offset if start is None else start
    if start is not None and end is None and duration is not None:
        end = start + duration
    check_span(start, end)
    return start, end


def _string(fields: dict[str, Any], *names: str) -> str | None:
    """The first of the fields that is there, as a string; whole numbers are ids and speakers."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise ManifestError(f"{name} is not a string")
        if value is not None:
            return value
    return None


def _text(fields: dict[str, Any], name: str) -> str | None:
    """A field that will be written; JSON can escape half of a character, UTF-8 cannot hold it."""
    text = _string(fields, name)
    if text is not None and _SURROGATE.search(text):
        raise ManifestError(f"{name} {text!r} holds half of a character")
    return text


def _seconds(fields: dict[str, Any], *names: str) -> float | None:
    for name in names:
        value = fields.get(name)
        if value is not None:
            return parse_seconds(name, value)
    return None
