"""Reads a folder of recordings that has no manifest: audio that nobody has transcribed."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from tfkd.corpora.lines import Line, audio_path, collect
from tfkd.corpora.trees import files_in
from tfkd.corpora.utterances import Corpus, Utterance

_LOG = logging.getLogger("tfkd")
# What is not read among these is named for what it is when its audio is opened.
_AUDIO = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".au", ".snd", ".caf", ".aif",
    ".aiff", ".aifc", ".w64", ".rf64", ".sph", ".nist", ".voc", ".m4a", ".m4b", ".mp4", ".aac",
    ".ac3", ".amr", ".3gp", ".wma", ".webm", ".mp2", ".mpga", ".mka", ".wv", ".ape", ".spx", ".tta",
)  # fmt: skip
_NAMED_KINDS = 8
_TEXTS = (".txt", ".lab", ".trn", ".textgrid", ".srt", ".vtt", ".json")


def has_recordings(folder: Path) -> bool:
    """Whether a folder, or one inside of it, holds an audio file."""
    return next(files_in(folder, _AUDIO), None) is not None


def read_recordings(folder: Path) -> Corpus:
    """Reads every audio file of a folder and of those inside of it, in the order of their paths.

    Logs a warning if files of text stand beside them, since these are not read as transcripts, and
    one that counts files of kinds that are not known to be audio.
    """
    files = sorted(files_in(folder, _AUDIO))
    texts = sorted(files_in(folder, _TEXTS))
    kinds = (each.suffix.lower() or "no suffix" for each in files_in(folder, ""))
    if unknown := Counter(kind for kind in kinds if kind not in (*_AUDIO, *_TEXTS)):
        _LOG.warning(
            "%s: files that are not known to be audio were not read: %s",
            *(folder, _counted(unknown)),
        )
    recorded = {each.with_suffix("") for each in files}
    beside = [each for each in texts if each.with_suffix("") in recorded]
    if beside:
        _LOG.warning(
            "%s: %d files such as %s were not read as transcripts (write a manifest that names "
            "the text of each recording)",
            *(folder, len(beside), beside[0].relative_to(folder)),
        )
    return collect((Line(each, 1, b"") for each in files), lambda line: _of(folder, line), folder)


def _counted(kinds: Counter[str]) -> str:
    named = [f"{kind} ({n} x)" for kind, n in kinds.most_common(_NAMED_KINDS)]
    others = [f"{len(kinds) - len(named)} other kinds"] if len(kinds) > len(named) else []
    return ", ".join(named + others)


def _of(folder: Path, line: Line) -> Utterance:
    return Utterance("", audio_path(folder, str(line.path.relative_to(folder))))
