"""Reads a folder of recordings that has no manifest: audio that nobody has transcribed."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from tfkd.corpora.lines import AUDIO_SUFFIXES, Line, audio_path, collect
from tfkd.corpora.trees import files_in
from tfkd.corpora.utterances import Corpus, Utterance

_LOG = logging.getLogger("tfkd")
_NAMED_KINDS = 8
# How files of text begin that are about the whole folder.
_NO_TRANSCRIPT = ("readme", "license", "licence", "copying", "notice", "changelog", "authors")
_TEXTS = (".txt", ".lab", ".trn", ".textgrid", ".srt", ".vtt", ".json")


def has_recordings(folder: Path, without: Path | None = None) -> bool:
    """Whether a folder, or one inside of it, holds an audio file."""
    return next(files_in(folder, AUDIO_SUFFIXES, without), None) is not None


def read_recordings(folder: Path, without: Path | None = None) -> Corpus:
    """Reads every audio file of a folder and of those inside of it, in the order of their paths.

    Logs a warning if there are files of text, since these are not read as transcripts, and one that
    counts files of kinds that are not known to be audio.
    """
    files = sorted(files_in(folder, AUDIO_SUFFIXES, without))
    texts = sorted(files_in(folder, _TEXTS, without))
    kinds = (each.suffix.lower() or "no suffix" for each in files_in(folder, "", without))
    if unknown := Counter(kind for kind in kinds if kind not in (*AUDIO_SUFFIXES, *_TEXTS)):
        _LOG.warning(
            "%s: files that are not known to be audio were not read: %s",
            *(folder, _counted(unknown)),
        )
    passed_over = [each for each in texts if not each.name.lower().startswith(_NO_TRANSCRIPT)]
    if passed_over:
        _LOG.warning(
            "%s: %d files such as %s were not read as transcripts (write a manifest that names "
            "the text of each recording)",
            *(folder, len(passed_over), passed_over[0].relative_to(folder)),
        )
    return collect((Line(each, 1, b"") for each in files), lambda line: _of(folder, line), folder)


def _counted(kinds: Counter[str]) -> str:
    named = [f"{kind} ({n} x)" for kind, n in kinds.most_common(_NAMED_KINDS)]
    others = [f"{len(kinds) - len(named)} other kinds"] if len(kinds) > len(named) else []
    return ", ".join(named + others)


def _of(folder: Path, line: Line) -> Utterance:
    return Utterance("", audio_path(folder, str(line.path.relative_to(folder))))
