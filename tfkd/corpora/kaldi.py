"""Reads Kaldi data directories."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tfkd.corpora.lines import (
    SIDES,
    Line,
    check_span,
    collect,
    first_word,
    found_path,
    lines_of,
    parse_channel,
    parse_seconds,
)
from tfkd.corpora.pipes import Source, source_of
from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError

_LOG = logging.getLogger("tfkd")
_ARCHIVE = re.compile(r"\.(ark|scp):\d+(\[.*\])?$")
WAV_SCP = "wav.scp"


@dataclass
class _Table:
    """The lines of one file, by their first word.

    Attributes:
      rows: each line with what follows its first word.
      faults: what is wrong with the lines of a word; an utterance that needs one of them is
        rejected for that, once.
    """

    rows: dict[str, tuple[Line, str]] = field(default_factory=dict)
    faults: dict[str, Rejection] = field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """Returns what follows a first word; None if no line begins with it."""
        return self.rows[key][1] if key in self.rows else None


@dataclass(frozen=True)
class _Segment:
    """A line of `segments`, without its first word."""

    recording_id: str
    start: float | None = None
    end: float | None = None
    channel: int | None = None


def read_kaldi(path: Path) -> Corpus:
    """Reads a data directory; see `tfkd.corpora.read_corpus`, also for what is raised."""
    if not (path / WAV_SCP).is_file():
        raise ManifestError("no wav.scp in this folder", path=path, remedy="correct the path")
    has_segments = (path / "segments").exists()
    # Without segments, each recording is an utterance, and each line of wav.scp is one of these.
    recordings = _table(path / WAV_SCP) if has_segments else None
    texts, speakers = _table(path / "text"), _table(path / "utt2spk")
    sides = _sides(path)

    def utterance(line: Line, utterance_id: str, rest: str) -> Utterance | Rejection:
        if utterance_id in texts.faults:
            return texts.faults[utterance_id]
        segment = _segment(rest) if recordings else _Segment(utterance_id)
        name = _recording(recordings, segment.recording_id) if recordings else rest
        source = _source(name)
        channel = source.channel
        if channel is None:
            channel = _channel(sides, segment)
        return Utterance(
            utterance_id,
            _audio_path(Path(os.path.abspath(path)), source.name),
            texts.value(utterance_id),
            speakers.value(utterance_id) or None,
            segment.start,
            segment.end,
            channel,
            source.command,
        )

    def parse(line: Line) -> Utterance | Rejection:
        key = _key(line)
        try:
            return utterance(line, *first_word(line))
        except ManifestError as error:
            return line.bad(error, key)

    utterances, rejections = collect(lines_of(path / _driving(path)), parse)
    _warn_of(path, speakers)
    known = {each.utterance_id for each in utterances}
    known |= {each.utterance_id for each in rejections}
    for key, (line, _) in texts.rows.items():
        if key not in known and key not in texts.faults:
            detail = f"it has a text, but no audio (add it to {_driving(path)})"
            rejections.append(line.rejection("missing_file", detail, key))
    rejections += [fault for key, fault in texts.faults.items() if key not in known]
    return utterances, rejections


def _driving(path: Path) -> str:
    """Returns the file that has one line for each utterance."""
    return "segments" if (path / "segments").exists() else WAV_SCP


def _recording(recordings: _Table, recording_id: str) -> str:
    fault = recordings.faults.get(recording_id)
    if fault is not None:
        raise ManifestError(
            f"recording {recording_id} of wav.scp: {fault.detail}", remedy="correct wav.scp"
        )
    name = recordings.value(recording_id)
    if name is None:
        raise ManifestError(
            f"recording {recording_id} is not in wav.scp", remedy="add it, or correct its name"
        )
    return name


def _table(path: Path) -> _Table:
    """Reads a file of `id value` lines; an absent file is an empty one."""
    table = _Table()
    for line in lines_of(path) if path.exists() else ():
        try:
            key, value = first_word(line)
        except ManifestError as error:
            fault = line.bad(error, _key(line))
            table.faults[fault.utterance_id] = fault
            continue
        if table.value(key) not in (None, value):
            detail = f"{path.name} says two things of {key} (leave out one)"
            table.faults[key] = line.rejection("duplicate_id", detail, key)
        table.rows.setdefault(key, (line, value))
    return table


def _key(line: Line) -> str | None:
    """Returns the first word of a line whose rest may not be UTF-8."""
    try:
        return line.content.split()[0].decode()
    except UnicodeDecodeError:
        return None


def _sides(path: Path) -> _Table:
    """Reads `reco2file_and_channel` for the recordings that share a file.

    A recording that has a file of its own holds that channel alone.
    """
    sides, recordings = _table(path / "reco2file_and_channel"), _table(path / WAV_SCP)
    users = Counter(value for _, value in recordings.rows.values())
    shared = {key for key, (_, value) in recordings.rows.items() if users[value] > 1}
    return _Table(
        {key: row for key, row in sides.rows.items() if key in shared},
        {key: fault for key, fault in sides.faults.items() if key in shared},
    )


def _channel(sides: _Table, segment: _Segment) -> int | None:
    """Returns the channel of a segment, counted from 0; None if its recording has a single one."""
    recording_id = segment.recording_id
    fault, value = sides.faults.get(recording_id), sides.value(recording_id)
    if fault is None and value is None:
        return segment.channel
    side = (value or "").split()[-1:]
    if fault is None and side and side[0].upper() in SIDES:
        return SIDES[side[0].upper()]
    if segment.channel is not None:
        return segment.channel
    detail = fault.detail if fault else f"{value!r} does not end in A or B"
    raise ManifestError(
        f"recording {recording_id} of reco2file_and_channel: {detail}",
        remedy="correct the line, or remove it",
    )


def _warn_of(path: Path, speakers: _Table) -> None:
    """Logs bad lines of utt2spk, which cost a speaker but no utterance."""
    if speakers.faults:
        first = next(iter(speakers.faults.values()))
        _LOG.warning(
            "%s: %d lines cannot be read, for example %s: %s",
            *(path / "utt2spk", len(speakers.faults), first.source, first.detail),
        )


def _source(name: str) -> Source:
    if not name:
        raise ManifestError("no path after the id", remedy="write `id path`, or remove the line")
    if _ARCHIVE.search(name):
        raise ManifestError(
            f"a place in an archive, not a file: {name}",
            remedy="convert the audio to files and name those",
        )
    return source_of(name)


def _audio_path(directory: Path, name: str) -> Path:
    # The directories of one corpus often share a folder beside them: ../audio/x.wav.
    return found_path(directory.parent, str(Path(directory.name, name)), name)


def _segment(text: str) -> _Segment:
    """Reads a line of `segments` after its id; an end of -1 is the end of the recording."""
    words = text.split()
    if len(words) not in (3, 4):
        raise ManifestError(
            f"{len(words)} words after the id",
            remedy="write `utterance recording start end` and, if it needs one, a channel",
        )
    recording_id, start_word, end_word, *channel_word = words
    start = parse_seconds("start", start_word)
    end = None if _is_minus_one(end_word) else parse_seconds("end", end_word)
    check_span(start, end)
    channel = parse_channel(channel_word[0]) if channel_word else None
    return _Segment(recording_id, start, end, channel)


def _is_minus_one(word: str) -> bool:
    return re.fullmatch(r"-1(\.0*)?", word) is not None
