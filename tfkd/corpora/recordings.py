"""Reads a folder of recordings that has no manifest: audio that nobody has transcribed."""

from __future__ import annotations

import logging
from pathlib import Path

from tfkd.corpora.lines import Line, audio_path, collect
from tfkd.corpora.trees import files_in
from tfkd.corpora.utterances import Corpus, Utterance

_LOG = logging.getLogger("tfkd")
# What is not read among these is named for what it is when its audio is opened.
_AUDIO = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".au", ".snd", ".caf", ".aif",
    ".aiff", ".aifc", ".w64", ".rf64", ".sph", ".m4a", ".mp4", ".aac", ".amr", ".3gp", ".wma",
    ".webm",
)  # fmt: skip
_TEXTS = (".txt", ".lab", ".trn", ".textgrid", ".srt", ".vtt", ".json")


def has_recordings(folder: Path) -> bool:
    """Whether a folder, or one inside of it, holds an audio file."""
    return next(files_in(folder, _AUDIO), None) is not None


def read_recordings(folder: Path) -> Corpus:
    """Reads every audio file of a folder and of those inside of it, in the order of their paths.

    Logs a warning if files of text stand beside them, since these are not read as transcripts.
    """
    files = sorted(files_in(folder, _AUDIO))
    texts = sorted(files_in(folder, _TEXTS))
    recorded = {each.with_suffix("") for each in files}
    beside = [each for each in texts if each.with_suffix("") in recorded]
    if beside:
        _LOG.warning(
            "%s: %d files such as %s were not read as transcripts (write a manifest that names "
            "the text of each recording)",
            *(folder, len(beside), beside[0].relative_to(folder)),
        )
    return collect((Line(each, 1, b"") for each in files), lambda line: _of(folder, line), folder)


def _of(folder: Path, line: Line) -> Utterance:
    return Utterance("", audio_path(folder, str(line.path.relative_to(folder))))
