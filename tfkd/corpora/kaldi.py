"""Kaldi data directories."""

from __future__ import annotations

import re
from pathlib import Path

from tfkd.corpora.lines import (
    Line,
    audio_path,
    check_span,
    collect,
    first_word,
    lines_of,
    parse_seconds,
)
from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError

_KALDI_ARCHIVE = re.compile(r"\.(ark|scp):\d+(\[.*\])?$")

# The lines of one file by their first word, with what follows it; and the lines of no use.
_KaldiTable = tuple[dict[str, tuple[Line, str]], list[Rejection]]


def read_kaldi(path: Path) -> Corpus:
    """Reads a data directory; see `tfkd.corpora.read_corpus`, also for what is raised."""
    if not (path / "wav.scp").is_file():
        raise ManifestError("no wav.scp in this folder", path=path, remedy="correct the path")
    recordings, rejections = _kaldi_table(path / "wav.scp")
    for line, name in recordings.values():
        _check_plain_path(line, name)
    texts, bad_texts = _kaldi_table(path / "text")
    speakers, bad_speakers = _kaldi_table(path / "utt2spk")
    has_text, has_segments = (path / "text").exists(), (path / "segments").exists()

    def parse(line: Line) -> Utterance | Rejection:
        utterance_id, rest = first_word(line)
        recording_id, start, end = _segment(rest) if has_segments else (utterance_id, None, None)
        if recording_id not in recordings:
            raise ManifestError(f"recording {recording_id} is not in wav.scp")
        if has_text and utterance_id not in texts:
            return line.rejection("empty_transcript", "it is not in the file text", utterance_id)
        audio = _kaldi_audio_path(path.absolute(), recordings[recording_id][1])
        text = texts[utterance_id][1] if has_text else None
        speaker = speakers[utterance_id][1] or None if utterance_id in speakers else None
        return Utterance(utterance_id, audio, text, speaker, start, end)

    lines = (
        lines_of(path / "segments") if has_segments else [line for line, _ in recordings.values()]
    )
    utterances, unusable = collect(lines, parse)
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
    rows: dict[str, tuple[Line, str]] = {}
    rejections: list[Rejection] = []
    for line in lines_of(path) if path.exists() else ():
        try:
            key, value = first_word(line)
        except ManifestError as error:
            rejections.append(line.bad(error))
            continue
        if key in rows:
            detail = f"id {key} is used before in {path.name}"
            rejections.append(line.rejection("duplicate_id", detail, key))
        else:
            rows[key] = line, value
    return rows, rejections


def _kaldi_audio_path(directory: Path, name: str) -> Path:
    if not name:
        raise ManifestError("no path after the id")
    # The directories of one corpus often share a folder beside them: ../audio/x.wav.
    return audio_path(directory.parent, str(Path(directory.name, name)))


def _check_plain_path(line: Line, name: str) -> None:
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
    start = parse_seconds("start", start_word)
    end = None if end_word in ("-1", "-1.0") else parse_seconds("end", end_word)
    check_span(start, end)
    return recording_id, start, end
