"""Readers of corpora: each turns a layout of files into utterances.

Nothing is lost without a word: a line becomes an utterance or a rejection. Audio is not opened.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfkd.errors import ManifestError
from tfkd.files import contained_path

FORMATS = ("auto", "jsonl", "kaldi", "librispeech", "commonvoice", "ljspeech")

_TRANSCRIPTS = "*.trans.txt"
_AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
# In ids and paths: control characters, line ends, and surrogates, which UTF-8 cannot hold.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KALDI_ARCHIVE = re.compile(r"\.(ark|scp):\d+(\[.*\])?$")


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one, and what is said in it.

    Attributes:
      audio: file of the recording; it may be missing.
      text: transcript as the corpus has it, not normalised; None if there is none.
      start_seconds: where the utterance begins in the recording; None: at its start.
      end_seconds: where it ends; None: at its end.
    """

    utterance_id: str
    audio: Path
    text: str | None = None
    speaker: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Rejection:
    """An utterance, or a line that should have been one, that is not used.

    Attributes:
      utterance_id: its id, or file:line where a line has none.
      reason: slug: missing_file, undecodable_audio, empty_transcript, duplicate_id, too_short,
        too_long, not_finite, silent, bad_line, untokenisable_text ...
      detail: what is wrong, in words.
      source: file and line it comes from.
    """

    utterance_id: str
    reason: str
    detail: str
    source: str


Corpus = tuple[list[Utterance], list[Rejection]]


def read_corpus(path: str | Path, format: str = "auto") -> Corpus:
    """Reads a corpus.

    Formats:
      jsonl: one object a line: `audio` or `audio_filepath` (relative to the manifest);
        `utterance_id` or `id` (default: name of the audio file without its suffix), `text`,
        `speaker`; `start_seconds` and `end_seconds`, or NeMo's `offset` and `duration`.
      kaldi: directory with wav.scp (plain paths, relative to the directory), text, segments,
        utt2spk; all but wav.scp may be absent.
      librispeech: tree with *.trans.txt beside the audio.
      commonvoice: TSV with the columns path and sentence, beside the folder clips.
      ljspeech: metadata.csv (id|text|normalised text) beside the folder wavs.

    Args:
      path: the manifest, TSV, CSV, or directory.
      format: one of `FORMATS`; "auto" tells it from the names of the files.
    Returns:
      Utterances in the order of the corpus, their ids unique; and rejections: bad_line for what
      cannot be parsed, duplicate_id for every further use of an id, empty_transcript for what
      a Kaldi `text` leaves out.
    Raises:
      ManifestError: if there is no such corpus, nothing is in it, or its layout is not supported.
    """
    path = Path(path)
    if format not in FORMATS:
        remedy = f"use one of {', '.join(FORMATS)}"
        raise ManifestError(f"unknown corpus format {format!r}", path=path, remedy=remedy)
    if not path.exists():
        raise ManifestError("no such file or folder", path=path, remedy="correct the path")
    if format == "auto":
        format = _detect_format(path)
    utterances, rejections = _READERS[format](path)
    if not utterances and not rejections:
        raise ManifestError(f"no utterances in this {format} corpus", path=path)
    return utterances, rejections


def _detect_format(path: Path) -> str:
    if path.is_file():
        by_suffix = {".jsonl": "jsonl", ".json": "jsonl", ".tsv": "commonvoice", ".csv": "ljspeech"}
        if path.suffix.lower() in by_suffix:
            return by_suffix[path.suffix.lower()]
    elif (path / "wav.scp").exists():
        return "kaldi"
    elif (path / "metadata.csv").exists():
        return "ljspeech"
    elif next(path.rglob(_TRANSCRIPTS), None) is not None:
        return "librispeech"
    raise ManifestError(
        "cannot tell the format of this corpus",
        path=path,
        remedy="name a manifest (.jsonl), TSV or corpus folder, or give its format",
    )


# --- lines


@dataclass(frozen=True)
class _Line:
    """One line of a file that is not blank, without its end."""

    path: Path
    number: int
    content: bytes

    @property
    def source(self) -> str:
        return f"{self.path}:{self.number}"

    def text(self) -> str:
        """The line as text.

        Raises:
          ManifestError: if it is not UTF-8.
        """
        try:
            return self.content.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError("the line is not UTF-8", remedy="convert the file") from error

    def rejection(self, reason: str, detail: str, utterance_id: str | None = None) -> Rejection:
        return Rejection(
            utterance_id or f"{self.path.name}:{self.number}", reason, detail, self.source
        )

    def bad(self, error: ManifestError) -> Rejection:
        advice = f" ({error.remedy})" if error.remedy else ""
        return self.rejection("bad_line", f"{error.message}{advice}")


def _lines(path: Path) -> Iterator[_Line]:
    try:
        with open(path, "rb") as file:
            for number, content in enumerate(file, 1):
                if content.strip():
                    yield _Line(path, number, content.rstrip(b"\r\n"))
    except OSError as error:
        raise ManifestError(f"cannot read: {error.strerror or error}", path=path) from error


def _collect(lines: Iterable[_Line], parse: Callable[[_Line], Utterance | Rejection]) -> Corpus:
    """Parses each line into one of the two lists; `parse` raises ManifestError for a bad line."""
    utterances: dict[str, Utterance] = {}
    rejections: list[Rejection] = []
    for line in lines:
        try:
            parsed = parse(line)
            if isinstance(parsed, Utterance):
                _check_id(parsed.utterance_id)
        except ManifestError as error:
            parsed = line.bad(error)
        if isinstance(parsed, Utterance) and parsed.utterance_id in utterances:
            detail = f"id {parsed.utterance_id} is used before"
            parsed = line.rejection("duplicate_id", detail, parsed.utterance_id)
        if isinstance(parsed, Rejection):
            rejections.append(parsed)
        else:
            utterances[parsed.utterance_id] = parsed
    return list(utterances.values()), rejections


def _check_id(utterance_id: str) -> None:
    if not utterance_id or _UNUSABLE.search(utterance_id):
        raise ManifestError(f"{utterance_id!r} is no usable id")


def _audio_path(directory: Path, name: str) -> Path:
    """Path of an audio file that a line names."""
    if not name or _UNUSABLE.search(name):
        raise ManifestError(f"{name!r} is no usable path")
    return contained_path(directory, name)


def _audio_with_any_suffix(directory: Path, stem: str, usual: str) -> Path:
    """The audio file of that name, whatever it was converted to; if missing, the usual one."""
    suffixes = (usual, *(suffix for suffix in _AUDIO_SUFFIXES if suffix != usual))
    paths = [_audio_path(directory, stem + suffix) for suffix in suffixes]
    # Path.exists raises for names that no file can have.
    return next((path for path in paths if os.path.exists(path)), paths[0])


# --- JSONL


def _read_jsonl(path: Path) -> Corpus:
    if path.is_dir():
        raise ManifestError("a folder is no manifest", path=path, remedy="name its .jsonl file")
    return _collect(_lines(path), functools.partial(_jsonl_utterance, path.parent))


def _jsonl_utterance(directory: Path, line: _Line) -> Utterance:
    try:
        fields = json.loads(line.text())
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ManifestError("not a JSON object")
    name = _string(fields, "audio", "audio_filepath")
    if name is None:
        raise ManifestError("no audio field", remedy="name the file in `audio`")
    utterance_id = _string(fields, "utterance_id", "id")
    start, end = _jsonl_span(fields)
    return Utterance(
        Path(name).stem if utterance_id is None else utterance_id,
        _audio_path(directory, name),
        _text(fields, "text"),
        _text(fields, "speaker"),
        start,
        end,
    )


def _jsonl_span(fields: dict[str, Any]) -> tuple[float | None, float | None]:
    start, end = _seconds(fields, "start_seconds"), _seconds(fields, "end_seconds")
    offset, duration = _seconds(fields, "offset"), _seconds(fields, "duration_seconds", "duration")
    if start is None and end is None and offset is not None:
        start, end = offset, None if duration is None else offset + duration
    _check_span(start, end)
    return start, end


def _check_span(start: float | None, end: float | None) -> None:
    if end is not None and end <= (start or 0.0):
        raise ManifestError(f"the utterance ends at {end:g} s, before it starts")


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
            return _parse_seconds(name, value)
    return None


def _parse_seconds(name: str, value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ManifestError(f"{name} {value!r} is not a number of seconds")
    return seconds


# --- Kaldi


# The lines of one file by their first word, with what follows it; and the lines of no use.
_KaldiTable = tuple[dict[str, tuple[_Line, str]], list[Rejection]]


def _read_kaldi(path: Path) -> Corpus:
    if not (path / "wav.scp").is_file():
        raise ManifestError("no wav.scp in this folder", path=path, remedy="correct the path")
    recordings, rejections = _kaldi_table(path / "wav.scp")
    for line, name in recordings.values():
        _check_plain_path(line, name)
    texts, bad_texts = _kaldi_table(path / "text")
    speakers, bad_speakers = _kaldi_table(path / "utt2spk")
    has_text, has_segments = (path / "text").exists(), (path / "segments").exists()

    def parse(line: _Line) -> Utterance | Rejection:
        utterance_id, rest = _first_word(line)
        recording_id, start, end = _segment(rest) if has_segments else (utterance_id, None, None)
        if recording_id not in recordings:
            raise ManifestError(f"recording {recording_id} is not in wav.scp")
        if has_text and utterance_id not in texts:
            return line.rejection("empty_transcript", "it is not in the file text", utterance_id)
        audio = _kaldi_audio_path(path.absolute(), recordings[recording_id][1])
        text = texts[utterance_id][1] if has_text else None
        speaker = speakers[utterance_id][1] or None if utterance_id in speakers else None
        return Utterance(utterance_id, audio, text, speaker, start, end)

    lines = _lines(path / "segments") if has_segments else [line for line, _ in recordings.values()]
    utterances, unusable = _collect(lines, parse)
    rejections += bad_texts + bad_speakers + unusable
    accounted = {item.utterance_id for item in utterances}
    accounted |= {item.utterance_id for item in rejections}
    rejections += [
        line.rejection("missing_file", "its audio is not listed", utterance_id)
        for utterance_id, (line, _) in texts.items()
        if utterance_id not in accounted
    ]
    return utterances, rejections


def _kaldi_table(path: Path) -> _KaldiTable:
    """Reads a file of `id value` lines; an absent file is an empty one."""
    rows: dict[str, tuple[_Line, str]] = {}
    rejections: list[Rejection] = []
    for line in _lines(path) if path.exists() else ():
        try:
            key, value = _first_word(line)
        except ManifestError as error:
            rejections.append(line.bad(error))
            continue
        if key in rows:
            detail = f"id {key} is used before in {path.name}"
            rejections.append(line.rejection("duplicate_id", detail, key))
        else:
            rows[key] = line, value
    return rows, rejections


def _first_word(line: _Line) -> tuple[str, str]:
    # Not every Unicode space, as str.split would: transcripts may hold others.
    word, _, rest = line.text().strip(" \t").replace("\t", " ").partition(" ")
    return word, rest.strip(" ")


def _kaldi_audio_path(directory: Path, name: str) -> Path:
    if not name:
        raise ManifestError("no path after the id")
    # The directories of one corpus often share a folder beside them: ../audio/x.wav.
    return _audio_path(directory.parent, str(Path(directory.name, name)))


def _check_plain_path(line: _Line, name: str) -> None:
    if "|" in name or _KALDI_ARCHIVE.search(name):
        kind = "command" if "|" in name else "place in an archive"
        raise ManifestError(
            f"line {line.number} of wav.scp is a {kind}, not a file: {name}",
            path=line.path,
            remedy="convert the audio to files and name those",
        )


def _segment(text: str) -> tuple[str, float, float | None]:
    """Recording, start and end of a line of `segments`; an end of -1 is that of the recording."""
    words = text.split()
    if len(words) != 3:
        raise ManifestError("not `utterance recording start end`")
    recording_id, start_word, end_word = words
    start = _parse_seconds("start", start_word)
    end = None if end_word in ("-1", "-1.0") else _parse_seconds("end", end_word)
    _check_span(start, end)
    return recording_id, start, end


# --- LibriSpeech, Common Voice, LJSpeech


def _read_librispeech(path: Path) -> Corpus:
    files = [path] if path.is_file() else sorted(path.rglob(_TRANSCRIPTS))
    return _collect((line for file in files for line in _lines(file)), _librispeech_utterance)


def _librispeech_utterance(line: _Line) -> Utterance:
    utterance_id, text = _first_word(line)
    audio = _audio_with_any_suffix(line.path.parent, utterance_id, ".flac")
    return Utterance(utterance_id, audio, text, utterance_id.partition("-")[0])


def _read_commonvoice(path: Path) -> Corpus:
    if path.is_dir():
        raise ManifestError(
            "a Common Voice folder holds several TSV files", path=path, remedy="name one of them"
        )
    lines = _lines(path)
    try:
        header = next((line.text().split("\t") for line in lines), [])
    except ManifestError as error:
        raise ManifestError(error.message, path=path, remedy=error.remedy) from error
    missing = [column for column in ("path", "sentence") if column not in header]
    if missing:
        raise ManifestError(
            f"the first line names no column {' or '.join(missing)}",
            path=path,
            remedy="use a Common Voice TSV, fields parted by tabs",
        )
    return _collect(lines, functools.partial(_commonvoice_utterance, path.parent / "clips", header))


def _commonvoice_utterance(clips: Path, header: list[str], line: _Line) -> Utterance:
    # Quotes have no meaning in these files: transcripts hold single ones.
    fields = line.text().split("\t")
    if len(fields) != len(header):
        raise ManifestError(f"{len(fields)} fields where the first line has {len(header)}")
    row = dict(zip(header, fields))
    if not row["path"]:
        raise ManifestError("the path is empty")
    # The first releases left the suffix out.
    name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
    return Utterance(
        Path(name).stem, _audio_path(clips, name), row["sentence"], row.get("client_id") or None
    )


def _read_ljspeech(path: Path) -> Corpus:
    table = path / "metadata.csv" if path.is_dir() else path
    return _collect(_lines(table), functools.partial(_ljspeech_utterance, table.parent / "wavs"))


def _ljspeech_utterance(wavs: Path, line: _Line) -> Utterance:
    fields = line.text().split("|")
    if len(fields) not in (2, 3):
        raise ManifestError("not `id|text` or `id|text|normalised text`")
    # The third field has numbers and abbreviations in words.
    text = fields[2] if len(fields) == 3 and fields[2].strip() else fields[1]
    return Utterance(fields[0], _audio_with_any_suffix(wavs, fields[0], ".wav"), text)


_READERS: dict[str, Callable[[Path], Corpus]] = {
    "jsonl": _read_jsonl,
    "kaldi": _read_kaldi,
    "librispeech": _read_librispeech,
    "commonvoice": _read_commonvoice,
    "ljspeech": _read_ljspeech,
}
