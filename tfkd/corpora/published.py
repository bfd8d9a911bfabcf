"""Reads corpora in the layout of their publishers: LibriSpeech, Common Voice, LJSpeech."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tfkd.corpora.fields import FieldCount, utterance_of
from tfkd.corpora.lines import (
    AUDIO_SUFFIXES,
    Line,
    audio_path,
    audio_with_any_suffix,
    collect,
    first_word,
    lines_of,
)
from tfkd.corpora.trees import files_in
from tfkd.corpora.utterances import Corpus, Utterance
from tfkd.errors import ManifestError, advising

_LOG = logging.getLogger("tfkd")
# Of LibriSpeech: how names of the files of transcripts end.
_TRANSCRIPTS = ".trans.txt"


def read_librispeech(path: Path) -> Corpus:
    """Reads a tree, or one file of transcripts; see `tfkd.corpora.read_corpus`.

    Logs a warning if there is audio in the tree that no file of transcripts names.
    """
    if path.is_file():
        return collect(lines_of(path), _librispeech_utterance)
    files = sorted(transcript_files(path))
    corpus = collect((line for file in files for line in lines_of(file)), _librispeech_utterance)
    # Lines that were rejected, and the same audio in another format, were not passed over.
    lines = (line.content.split()[0] for file in files for line in lines_of(file))
    named = {name.decode(errors="replace") for name in lines}
    unnamed = sorted(each for each in files_in(path, AUDIO_SUFFIXES) if each.stem not in named)
    if unnamed:
        _LOG.warning(
            "%s: %d audio files such as %s are not read: no file of transcripts has their line",
            *(path, len(unnamed), unnamed[0].relative_to(path)),
        )
    return corpus


def transcript_files(tree: Path) -> Iterator[Path]:
    """Finds the files of transcripts in a tree of LibriSpeech."""
    return files_in(tree, _TRANSCRIPTS)


def _librispeech_utterance(line: Line) -> Utterance:
    utterance_id, text = first_word(line)
    audio = audio_with_any_suffix(line.path.parent, utterance_id, ".flac")
    return Utterance(utterance_id, audio, text, utterance_id.partition("-")[0])


def read_commonvoice(path: Path) -> Corpus:
    """Reads a TSV; see `tfkd.corpora.read_corpus`, also for what is raised."""
    if path.is_dir():
        raise ManifestError(
            "a Common Voice folder holds several TSV files", path=path, remedy="name one of them"
        )
    lines = lines_of(path)
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
    clips, count = (path.parent / "clips").absolute(), FieldCount()
    parse = functools.partial(_commonvoice_utterance, clips, header, count)
    corpus = collect(lines, parse, root=clips)
    count.warn(path)
    return corpus


def _commonvoice_utterance(
    clips: Path, header: list[str], count: FieldCount, line: Line
) -> Utterance:
    # Quotes have no meaning in these files: transcripts hold single ones.
    fields = line.text().split("\t")
    if len(fields) != len(header):
        raise ManifestError(
            f"{len(fields)} fields where the first line has {len(header)}",
            remedy="part them by one tab each, as the first line does",
        )
    # An empty cell is one that nobody filled in.
    row = {name: cell for name, cell in zip(header, fields, strict=True) if cell}
    if "path" not in row:
        raise ManifestError("the path is empty", remedy="name the clip, or remove the line")
    # The first releases left the suffix out.
    name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
    # Columns that other tables have, such as start and end, mean what they mean there.
    return utterance_of({**row, "path": str(_clip(clips, name))}, clips.parent, count)


def _clip(clips: Path, name: str) -> Path:
    """Returns the path of a clip in `clips`; a name may begin with that folder."""
    inside, beside = audio_path(clips, name), audio_path(clips.parent, name)
    return beside if os.path.exists(beside) and not os.path.exists(inside) else inside


def has_bars(path: Path) -> bool:
    """Whether there are bars in the first line, as in LJSpeech's metadata.csv."""
    first = next(lines_of(path), None)
    return first is not None and b"|" in first.content


def read_ljspeech(path: Path) -> Corpus:
    """Reads a folder, or its metadata.csv; see `tfkd.corpora.read_corpus`."""
    table = path / "metadata.csv" if path.is_dir() else path
    return collect(lines_of(table), functools.partial(_ljspeech_utterance, table.parent / "wavs"))


@advising("write `id|text` or `id|text|normalised text`")
def _ljspeech_utterance(wavs: Path, line: Line) -> Utterance:
    fields = line.text().split("|")
    if len(fields) not in (2, 3):
        raise ManifestError(f"{len(fields)} fields parted by |")
    if not fields[0]:
        raise ManifestError("the id is empty")
    # The third field has numbers and abbreviations in words.
    text = fields[2] if len(fields) == 3 and fields[2].strip() else fields[1]
    return Utterance(fields[0], audio_with_any_suffix(wavs, fields[0], ".wav"), text)
